"""Parts of a network that mixed precision or the compiler leaves alone."""

import contextlib
import functools
from collections.abc import Callable

import torch


def disable_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """Switch autocast off, where the device has one ("meta" does not)."""
    if device.type == 'meta':
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def disable_compile(function: Callable) -> Callable:
    """``torch.compiler.disable`` that loads the compiler only if there is something to compile.

    To decorate methods with. Loading it takes about as long as a detection.
    """
    disabled: list[Callable] = []

    @functools.wraps(function)
    def call(*args, **kwargs):
        if not torch.compiler.is_compiling():
            return function(*args, **kwargs)
        if not disabled:
            disabled.append(torch.compiler.disable(function))
        return disabled[0](*args, **kwargs)

    return call
