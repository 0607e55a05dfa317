"""Modules whose every tensor is random, in float64."""

import torch
from torch import Tensor, nn


def randomise(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Fill all parameters and statistics; return them.

    Edge weights may be negative, offsets of deformable convolutions reach
    over several cells, and norms are far from the identity. The module goes
    to float64 and to evaluation mode.

    Args:
        module (nn.Module): Changed in place.
        seed (int): Of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    module.double().eval()
    state = module.state_dict()
    for name, value in state.items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        if name.endswith('running_var'):
            noise = noise.abs() + 0.5
        elif value.dim() == 4:
            noise = noise / value[0].numel() ** 0.5
        value.copy_(noise)
    return {name: value.clone() for name, value in state.items()}


def random_map(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal values."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)
