"""Activation checkpointing that does not count batches twice."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


@contextlib.contextmanager
def _freeze_running_stats(module: nn.Module) -> Iterator[None]:
    """Let batch norms normalise without updating their statistics."""
    norms = [
        norm
        for norm in module.modules()
        if isinstance(norm, _BatchNorm) and norm.track_running_stats and norm.training
    ]
    momenta = [norm.momentum for norm in norms]
    counters = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    counts = [counter.clone() for counter in counters]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for counter, count in zip(counters, counts):
            counter.copy_(count)


def recompute(module: nn.Module, *args: Any) -> Any:
    """Call a module, keep its inputs only and run it again when going back.

    Batch norms update their running statistics once.
    """
    if not torch.is_grad_enabled():
        return module(*args)
    return checkpoint(
        module,
        *args,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), _freeze_running_stats(module)),
    )
