"""Parts of a network that mixed precision leaves alone."""

import contextlib

import torch


def disable_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """Switch autocast off, where the device has one ("meta" does not)."""
    if device.type == 'meta':
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
