"""The random state of a process, in a form that a checkpoint may hold."""

from __future__ import annotations

import random

import numpy as np
import torch


def get_random_state() -> dict:
    """The state of all random generators of this process.

    Returns:
        Tensors and numbers only: ``weights_only`` can load them.
    """
    name, keys, *numbers = np.random.get_state()
    return dict(
        python=random.getstate(),
        numpy=[name, torch.from_numpy(keys.astype(np.int64)), *numbers],
        torch=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    )


def set_random_state(state: dict) -> None:
    """Go on with the random numbers after a state of ``get_random_state``."""
    random.setstate(state['python'])
    name, keys, *numbers = state['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *numbers))
    torch.set_rng_state(state['torch'].cpu())
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())
