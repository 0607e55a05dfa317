"""What a measurement was made on, and how fast that can be."""

from __future__ import annotations

import copy
import os
import platform
import re
import time
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from mmdet_centernet2.version import __version__

from .section import Call, Context, fork

PACKAGES = ('mmcv', 'mmengine', 'mmdet', 'numpy')
#: What decides how fast half precision is on a CPU, as Linux names it.
CPU_FLAGS = ('avx2', 'avx512f', 'avx512_bf16', 'amx_bf16', 'avx512_fp16', 'amx_fp16')
#: (channels, height, width) of the 3x3 convolutions that most of a ResNet-50
#: detector's arithmetic is in at 800 x 1344: the towers', then C2 to C5.
CONV_SHAPES = ((256, 100, 168), (64, 200, 336), (128, 100, 168), (256, 50, 84), (512, 25, 42))


def environment() -> dict[str, str]:
    """Machine and versions; starts no CUDA in this process."""
    flags = _cpu_info('flags').split()
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    installed = {d.metadata['Name']: d.version for d in distributions()}
    return {
        'date': time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime()),
        'mmdet_centernet2': __version__,
        'CPU': _cpu_info('model name') or platform.processor() or 'unknown',
        'cores, threads': f'{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads',
        'CPU features': ', '.join(f for f in CPU_FLAGS if f in flags) or 'none that count',
        'memory': f'{memory / 1e9:.1f} GB',
        'load before': f'{os.getloadavg()[0]:.2f} (mean of the last minute)',
        'GPU': _gpu() if has_gpu() else 'none',
        'Python': platform.python_version(),
        'torch': torch.__version__,
        **{name: installed.get(name, 'not installed') for name in PACKAGES},
    }


def has_gpu() -> bool:
    """Whether torch sees a GPU; processes can still be forked after it."""
    os.environ.setdefault('PYTORCH_NVML_BASED_CUDA_CHECK', '1')
    return torch.cuda.is_available()


def _gpu() -> str:
    with fork() as child:  # no CUDA here
        name = child.submit(torch.cuda.get_device_name).result()
    return f'{name}, CUDA {torch.version.cuda}'


def _cpu_info(key: str) -> str:
    """First value of a key in Linux' list of processors."""
    path = Path('/proc/cpuinfo')
    found = re.search(rf'^{key}\s*: (.*)', path.read_text() if path.is_file() else '', re.M)
    return found[1] if found else ''


class Kernel(NamedTuple):
    """A library's kernel: operations of a call, and operations a second."""

    call: Call
    operations: int
    rate: float
    name: str


@torch.no_grad()
def fastest_convolution(context: Context, dtype: torch.dtype) -> Kernel:
    """The one of ``CONV_SHAPES`` and formats that the machine is best at."""
    kernels = []
    for channels, height, width in context.pick(CONV_SHAPES, CONV_SHAPES[-1:]):
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False).requires_grad_(False)
        x = torch.randn(1, channels, height, width)
        operations = 2 * 9 * channels**2 * height * width
        name = f'3x3, {channels} channels, {height} x {width}, {dtype}'.replace('torch.', '')
        for layout in (torch.contiguous_format, torch.channels_last):
            to = dict(dtype=dtype, device=context.device, memory_format=layout)
            call = partial(copy.deepcopy(conv).to(**to), x.to(**to))
            kernels.append(_kernel(context, call, operations, name))
    return max(kernels, key=lambda kernel: kernel.rate)


def matrix_product(context: Context, dtype: torch.dtype) -> Kernel:
    """A square matrix product."""
    size = context.pick(8192, 256)
    a, b = (torch.randn(size, size, device=context.device, dtype=dtype) for _ in range(2))
    return _kernel(context, lambda: a @ b, 2 * size**3, f'{size} x {size}')


def _kernel(context: Context, call: Call, operations: int, name: str) -> Kernel:
    timer = Timer('call()', globals=dict(call=call), num_threads=torch.get_num_threads())
    seconds = timer.blocked_autorange(min_run_time=context.pick(0.3, 0.01)).median
    return Kernel(call, operations, operations / seconds, name)


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
