"""What a measurement was made on, and how fast that can be."""

from __future__ import annotations

import os
import platform
import re
import time
from functools import partial
from pathlib import Path

import mmcv
import mmdet
import mmengine
import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

import mmdet_centernet2

from .section import Call, Context

PACKAGES = (mmdet_centernet2, torch, mmcv, mmengine, mmdet, np)
#: What decides how fast half precision is on a CPU, as Linux names it.
CPU_FLAGS = ('avx2', 'avx512f', 'avx512_bf16', 'amx_bf16', 'avx512_fp16', 'amx_fp16')
#: (channels, height, width) of a ResNet-50 detector's 3x3 convolutions: towers, C2 to C5.
CONV_SHAPES = ((256, 100, 168), (64, 200, 336), (128, 100, 168), (256, 50, 84), (512, 25, 42))


def environment() -> dict[str, str]:
    """Machine and versions; no CUDA is started."""
    flags = _cpu_info('flags').split()
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return {
        'date': time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime()),
        'CPU': _cpu_info('model name') or platform.processor() or 'unknown',
        'cores, threads': f'{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads',
        'CPU features': ', '.join(f for f in CPU_FLAGS if f in flags) or 'none that count',
        'memory': f'{memory / 1e9:.1f} GB',
        'load before': f'{os.getloadavg()[0]:.2f} (mean of the last minute)',
        'GPU': f'{torch.cuda.device_count()}, CUDA {torch.version.cuda}' if has_gpu() else 'none',
        'Python': platform.python_version(),
        **{package.__name__: package.__version__ for package in PACKAGES},
    }


def has_gpu() -> bool:
    """Whether torch sees a GPU; processes can still be forked after it."""
    os.environ.setdefault('PYTORCH_NVML_BASED_CUDA_CHECK', '1')
    return torch.cuda.is_available()


def _cpu_info(key: str) -> str:
    """First value of a key in Linux' list of processors."""
    found = re.search(rf'(?m)^{key}\s*: (.*)', Path('/proc/cpuinfo').read_text())
    return found[1] if found else ''


class Kernel:
    """A library's kernel: operations of a call, and operations a second."""

    def __init__(self, context: Context, name: str, operations: int, call: Call) -> None:
        self.name, self.operations, self.call = name, operations, call
        timer = Timer('call()', globals=dict(call=call), num_threads=torch.get_num_threads())
        measured = timer.blocked_autorange(min_run_time=context.pick(0.3, 0.01))
        self.rate = operations / measured.median


@torch.no_grad()
def fastest_convolution(context: Context, dtype: torch.dtype) -> Kernel:
    """The one of ``CONV_SHAPES`` and formats that the machine is best at."""
    kernels = []
    for channels, height, width in context.pick(CONV_SHAPES, CONV_SHAPES[-1:]):
        operations = 2 * 9 * channels**2 * height * width
        name = f'3x3, {channels} channels, {height} x {width}, {dtype}'.replace('torch.', '')
        for layout in (torch.contiguous_format, torch.channels_last):
            to = dict(dtype=dtype, device=context.device, memory_format=layout)
            conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(**to)
            call = partial(conv, torch.randn(1, channels, height, width).to(**to))
            kernels.append(Kernel(context, name, operations, call))
    return max(kernels, key=lambda kernel: kernel.rate)


def matrix_product(context: Context, dtype: torch.dtype) -> Kernel:
    """A square matrix product."""
    size = context.pick(8192, 256)
    a = torch.randn(size, size, device=context.device, dtype=dtype)
    return Kernel(context, f'{size} x {size}', 2 * size**3, partial(torch.matmul, a, a.clone()))


def count_operations(call: Call) -> int:
    """Of an eager call's convolutions and products; a multiply-add is two."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def gpu_seconds(call: Call, most: int = 10) -> dict[str, float]:
    """Seconds that a GPU spends in the operators that take most of them."""
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as record:
        call()
        torch.cuda.synchronize()
    seconds = {
        event.key: event.self_device_time_total * 1e-6
        for event in record.key_averages()
        # kernels and annotations count for the operator that launched them
        if event.device_type == torch.autograd.DeviceType.CPU
    }
    total = sum(seconds.values())
    longest = dict(sorted(seconds.items(), key=lambda item: -item[1])[:most])
    return {**longest, 'other operators': total - sum(longest.values())}
