"""Mixed precision without a GPU, and without loss scaling."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner.amp import autocast
from torch import nn

#: Values of oneDNN's variable ONEDNN_MAX_CPU_ISA that leave AVX512 without
#: BF16. With AVX2 and less, oneDNN itself says that it has no BF16.
AVX512_WITHOUT_BF16 = ('AVX512_CORE', 'AVX512_CORE_VNNI')


def cpu_has_bf16() -> bool:
    """Whether this CPU computes in bfloat16 rather than emulating it.

    On x86 that takes AVX512-BF16 or AMX. oneDNN supports BF16 on any AVX512,
    but without these it is several times slower than FP32. Its limits
    ``ONEDNN_MAX_CPU_ISA`` and ``DNNL_MAX_CPU_ISA`` are respected. False too if
    torch is built without oneDNN.
    """
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    if platform.machine().lower() not in ('x86_64', 'amd64'):
        return True
    limit = os.environ.get('ONEDNN_MAX_CPU_ISA', os.environ.get('DNNL_MAX_CPU_ISA', ''))
    # older versions of torch do not know
    has_bf16 = getattr(torch.cpu, '_is_avx512_bf16_supported', lambda: True)
    return has_bf16() and limit.upper() not in AVX512_WITHOUT_BF16


def warn_about_bf16(consequence: str) -> None:
    """Say that this CPU has no BF16, and what follows from it, a sentence."""
    print_log(
        f'This CPU has no bfloat16 arithmetic (AVX512-BF16, AMX or ARM BF16). {consequence}',
        'current',
        logging.WARNING,
    )


@OPTIM_WRAPPERS.register_module()
class BF16OptimWrapper(OptimWrapper):
    """Train under bfloat16 autocast, on a CPU or a GPU.

    bfloat16 has the range of FP32, so losses need no scaling. mmengine's
    ``AmpOptimWrapper``, which ``--amp`` switches on, wants a GPU. Use it by
    ``--cfg-options optim_wrapper.type=BF16OptimWrapper``. On a CPU without
    BF16 arithmetic it is several times slower than FP32, and says so.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        device = self.optimizer.param_groups[0]['params'][0].device
        if device.type == 'cpu' and not cpu_has_bf16():
            warn_about_bf16(
                'Training with BF16OptimWrapper is several times slower than with OptimWrapper.'
            )

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
