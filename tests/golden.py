"""Deterministic weights and inputs of the parity vectors, and their check.

The recipe is described in ``tests/data/golden/README.md``.
"""

import json
import zlib
from collections.abc import Iterable
from functools import lru_cache
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parent / 'data' / 'golden'
PROPOSALS = torch.tensor(
    [[10.0, 12, 60, 70], [-5, -8, 140, 90], [30, 20, 45, 33], [100, 50, 155, 104]]
)
PROPOSAL_SCORES = torch.tensor([0.9, 0.5, 0.25, 0.8])
GT_BOXES = torch.tensor([[12.0, 10, 58, 72], [20, 30, 40, 50], [90, 20, 148, 95]])
GT_LABELS = torch.tensor([3, 0, 7])
IMAGE_SHAPE = (100, 150)
#: Tensors of the original that the recipe leaves alone.
SKIPPED = ('num_batches_tracked', 'pixel_mean', 'pixel_std', 'freq_weight', 'fed_loss_cls_weights')


def load_golden(name: str) -> dict:
    """Results of the original for one of its models."""
    return json.loads((DATA / f'{name}.json').read_text())


def golden_image(golden: dict) -> Tensor:
    """Normalised, zero-padded network input, shape (1, 3, H, W)."""
    image = np.random.RandomState(0).randint(0, 256, (3, *IMAGE_SHAPE))
    mean = np.reshape(golden['pixel_mean'], (3, 1, 1))
    std = np.reshape(golden['pixel_std'], (3, 1, 1))
    image = (image.astype(np.float32) - mean.astype(np.float32)) / std.astype(np.float32)
    padded = np.zeros(golden['padded_shape'], np.float32)
    padded[0, :, : IMAGE_SHAPE[0], : IMAGE_SHAPE[1]] = image
    return torch.from_numpy(padded)


def golden_state_dict(shapes: Iterable[tuple[str, list]], pixel_std: list) -> dict[str, Tensor]:
    """The original's state dict, filled by the recipe.

    Args:
        shapes (Iterable[tuple[str, list]]): Original names and shapes.
        pixel_std (list[float]): Of the model's configuration.
    """
    dim_stem = list(pixel_std) == [1, 1, 1]
    return {
        name: _tensor(name, tuple(shape), dim_stem)
        for name, shape in shapes
        if not name.endswith(SKIPPED)
    }


@lru_cache(maxsize=1024)  # models share most of their tensors
def _tensor(name: str, shape: tuple, dim_stem: bool) -> Tensor:
    return torch.from_numpy(np.asarray(_values(name, shape, dim_stem), np.float32))


def _values(name: str, shape: tuple, dim_stem: bool) -> np.ndarray:
    """By the recipe; the stem is dimmed where pixels are not scaled."""
    rs = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith('running_var') or 'edge_weights' in name or '.weights_f' in name:
        return 0.5 + rs.random_sample(shape)
    if name.endswith('.scale'):
        return 1 + 0.1 * rs.standard_normal(shape)
    if name.endswith('centernet_head.bbox_pred.bias'):
        return 2 + 0.1 * rs.standard_normal(shape)
    if name.endswith(('running_mean', 'bias')):
        return 0.1 * rs.standard_normal(shape)
    if len(shape) == 1:
        return 0.8 + 0.4 * rs.random_sample(shape)
    values = rs.standard_normal(shape) * np.sqrt(1 / prod(shape[1:]))
    if 'offset' in name:
        values *= 0.2
    if dim_stem and name.endswith(('stem.conv1.weight', 'base_layer.0.weight')):
        values *= 0.02
    if 'box_predictor' in name and name.endswith('bbox_pred.weight'):
        values *= 0.3
    return values


def stats_error(tensor: Tensor, stats: dict) -> float:
    """Largest relative deviation of a tensor from its stored statistics.

    Means and samples, which may be near zero, are measured against the
    tensor's standard deviation; all else against itself.

    Args:
        tensor (Tensor): What the project computes.
        stats (dict): ``shape, mean, std, absmax, samples`` of the original.

    Raises:
        AssertionError: If the shapes differ.
    """
    assert list(tensor.shape) == stats['shape'], (tensor.shape, stats['shape'])
    flat = tensor.detach().double().flatten()
    n = flat.numel()
    samples = flat[torch.tensor([0, n // 3, n // 2, 2 * n // 3, n - 1])]
    scale = stats['std'] if stats['std'] > 0 else 1.0
    std = flat.std(unbiased=False).item()
    errors = [
        abs(flat.mean().item() - stats['mean']) / scale,
        abs(std - stats['std']) / scale,
        abs(flat.abs().max().item() - stats['absmax']) / max(stats['absmax'], 1e-12),
        (samples - torch.tensor(stats['samples'], dtype=torch.double)).abs().max().item() / scale,
    ]
    return max(errors)
