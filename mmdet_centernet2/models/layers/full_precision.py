"""Parts of a network that autocast leaves alone."""
import contextlib
from typing import ContextManager

import torch


def full_precision(device: torch.device) -> ContextManager:
    """Switch autocast off, where the device has one ("meta" does not).

    Args:
        device (torch.device): Of the tensors.
    """
    if device.type == 'meta':
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
