"""How fast a machine can be: what shares of a limit refer to."""
from __future__ import annotations

import itertools
from typing import Callable, NamedTuple

import torch
from torch import nn

from mmdet_centernet2.benchmarks.section import Context
from mmdet_centernet2.benchmarks.timing import paired

#: (channels, height, width) of the 3x3 convolutions that most of a ResNet-50
#: detector's arithmetic is in at 800 x 1344: the towers', then C2 to C5.
CONV_SHAPES = ((256, 100, 168), (64, 200, 336), (128, 100, 168),
               (256, 50, 84), (512, 25, 42))
FORMATS = (torch.contiguous_format, torch.channels_last)


class Kernel(NamedTuple):
    """One call of a library's kernel.

    Args:
        call (Callable): Runs it.
        operations (int): Floating point operations of a call; a multiply-add
            is two.
        rate (float): Operations a second, by the median of a few calls.
        name (str): What it is.
    """

    call: Callable[[], object]
    operations: int
    rate: float
    name: str


@torch.no_grad()
def fastest_convolution(context: Context, dtype: torch.dtype) -> Kernel:
    """The 3x3 convolution of ``CONV_SHAPES`` that the machine is best at.

    Args:
        context (Context): Where to measure.
        dtype (torch.dtype): Of maps and weights.

    Returns:
        Kernel: In the better one of the two memory formats.
    """
    kernels = (
        _convolution(context, shape, memory_format, dtype)
        for shape, memory_format in itertools.product(CONV_SHAPES, FORMATS))
    return max(kernels, key=lambda kernel: kernel.rate)


def _convolution(context: Context, shape: tuple,
                 memory_format: torch.memory_format,
                 dtype: torch.dtype) -> Kernel:
    channels, height, width = shape
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False).eval()
    x = torch.randn(1, *shape)
    conv, x = (thing.to(context.device, dtype, memory_format=memory_format)
               for thing in (conv.requires_grad_(False), x))
    name = f'3x3, {channels} channels, {height} x {width}'
    return _kernel(context, lambda: conv(x),
                   2 * 9 * channels**2 * height * width, name)


def matrix_product(context: Context, dtype: torch.dtype,
                   size: int = 8192) -> Kernel:
    """A square matrix product.

    Args:
        context (Context): Where to measure.
        dtype (torch.dtype): Of the matrices.
        size (int): Rows and columns.
    """
    a, b = (torch.randn(size, size, device=context.device, dtype=dtype)
            for _ in range(2))
    return _kernel(context, lambda: a @ b, 2 * size**3, f'{size} x {size}')


def bandwidth(context: Context, num_bytes: int = 2**30) -> float:
    """Memory traffic of a copy, read and written, in bytes a second."""
    source = torch.empty(num_bytes, dtype=torch.uint8, device=context.device)
    target = torch.empty_like(source)
    copy = _kernel(context, lambda: target.copy_(source), 2 * num_bytes, '')
    return copy.rate


def _kernel(context: Context, call: Callable[[], object], operations: int,
            name: str) -> Kernel:
    timing = paired(
        dict(call=call), rounds=context.pick(7, 3), warmup=2,
        wait=context.wait)
    return Kernel(call, operations, operations / timing['call'].median, name)
