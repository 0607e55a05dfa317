"""Train and test faster on a CPU, with the same arithmetic."""

import ctypes

import torch
from mmcv.ops import DeformConv2d, ModulatedDeformConv2d, RoIAlign
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

# Parameters of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
# mmcv's operators that read channels-last maps wrongly.
_CONTIGUOUS_ONLY = (DeformConv2d, ModulatedDeformConv2d, RoIAlign)


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory instead of returning it to the system.

    Feature maps are large: by default each is mapped anew, page by page, and
    unmapped when freed, which takes a third of the time of a training step.
    Holds for the rest of the process.

    Returns:
        False where the C library is not glibc; nothing changed then.
    """
    try:
        mallopt = ctypes.CDLL('libc.so.6').mallopt
    except (OSError, AttributeError):
        return False
    options = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 * 2**20}
    return all([mallopt(option, value) for option, value in options.items()])


def use_channels_last(model: nn.Module) -> None:
    """Keep all maps channels-last, which convolutions like.

    mmcv's RoIAlign and deformable convolutions read channels-last maps
    wrongly: they keep contiguous weights and get contiguous maps.
    """
    model.to(memory_format=torch.channels_last)
    for module in model.modules():
        if isinstance(module, _CONTIGUOUS_ONLY):
            module.to(memory_format=torch.contiguous_format)
            if _contiguous not in module._forward_pre_hooks.values():
                module.register_forward_pre_hook(_contiguous)


def _contiguous(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return tuple(x.contiguous() for x in inputs)


@HOOKS.register_module()
class CPUSpeedHook(Hook):
    """Speeds up training and testing on a CPU; does nothing on a GPU.

    See :func:`keep_freed_memory` and :func:`use_channels_last`: the
    arithmetic stays, sums are added up in another order.
    """

    def before_train(self, runner: Runner) -> None:
        """Speed the run's model up."""
        self.apply(runner.model)

    before_val = before_test = before_train

    def apply(self, model: nn.Module) -> None:
        """Switch both on, if the model is on a CPU."""
        if next(model.parameters()).device.type == 'cpu':
            keep_freed_memory()
            use_channels_last(model)
