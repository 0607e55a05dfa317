"""Activation checkpointing that leaves running statistics alone."""
import contextlib
from typing import Any, Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


@contextlib.contextmanager
def _still_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norms normalise without counting the batch again."""
    norms = [
        norm for norm in module.modules()
        if isinstance(norm, _BatchNorm) and norm.track_running_stats
        and norm.training
    ]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked.clone() for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


def recompute(module: nn.Module, *args: Any) -> Any:
    """Call a module, keeping its inputs only, not what it needs backward.

    The module runs a second time in the backward pass. Batch norms would
    count the batch twice; here they do not.

    Args:
        module (nn.Module): A part of a network.
        *args: Its inputs.

    Returns:
        Any: What it returns.
    """
    if not torch.is_grad_enabled():
        return module(*args)
    return checkpoint(
        module,
        *args,
        use_reentrant=False,
        context_fn=lambda:
        (contextlib.nullcontext(), _still_statistics(module)))
