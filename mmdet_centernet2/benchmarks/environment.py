"""What a measurement was made on."""
from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Dict

import torch

from mmdet_centernet2.version import __version__

PACKAGES = ('mmcv', 'mmengine', 'mmdet', 'numpy', 'onnxruntime',
            'faster-coco-eval')
#: What decides how fast half precision is on a CPU, as Linux names it.
CPU_FLAGS = ('avx2', 'avx512f', 'avx512_bf16', 'amx_bf16', 'avx512_fp16',
             'amx_fp16')


def environment() -> Dict[str, str]:
    """Machine and versions.

    Returns:
        dict[str, str]: In the order in which they are shown.
    """
    found = {
        'date': time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime()),
        'mmdet_centernet2': __version__,
        'CPU': _cpu_name(),
        'cores, threads': f'{os.cpu_count()} cores, torch uses '
                          f'{torch.get_num_threads()} threads',
        'CPU features': ', '.join(cpu_flags()) or 'unknown',
        'memory': f'{_memory() / 1e9:.1f} GB',
        'load before': _load(),
        'GPU': _gpu(),
        'Python': platform.python_version(),
        'torch': torch.__version__,
    }
    found.update({name: _version(name) for name in PACKAGES})
    return found


def _cpu_info(key: str) -> str:
    """First value of a key in Linux' list of processors."""
    path = Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.is_file() else []
    values = [line.split(':', 1)[1].strip() for line in lines
              if line.split(':')[0].strip() == key]
    return values[0] if values else ''


def _cpu_name() -> str:
    return _cpu_info('model name') or platform.processor() or 'unknown'


def cpu_flags() -> list[str]:
    """Those of ``CPU_FLAGS`` that this CPU has."""
    present = _cpu_info('flags').split()
    return [flag for flag in CPU_FLAGS if flag in present]


def _memory() -> int:
    """Of the machine, in bytes."""
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def _load() -> str:
    """Others' work, which a quiet machine has none of."""
    return f'{os.getloadavg()[0]:.2f} (mean of the last minute)'


def _gpu() -> str:
    if not torch.cuda.is_available():
        return 'none'
    about = torch.cuda.get_device_properties(0)
    return (f'{about.name}, {about.total_memory / 1e9:.0f} GB, CUDA '
            f'{torch.version.cuda}, bf16 '
            f'{"yes" if torch.cuda.is_bf16_supported() else "no"}')


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return 'not installed'
