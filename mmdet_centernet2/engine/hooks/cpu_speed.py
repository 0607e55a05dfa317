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
    return all(
        [
            mallopt(M_MMAP_MAX, 0),
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1),
            mallopt(M_TOP_PAD, 64 * 2**20),
        ]
    )


def use_channels_last(model: nn.Module) -> None:
    """Keep all maps channels-last, which convolutions like.

    mmcv's RoIAlign and deformable convolutions read channels-last maps
    wrongly: they keep contiguous weights and get contiguous maps.

    Args:
        model: A detector, or a part of one.
    """
    model.to(memory_format=torch.channels_last)
    for module in model.modules():
        hooks = module._forward_pre_hooks.values()
        if isinstance(module, _CONTIGUOUS_ONLY):
            module.to(memory_format=torch.contiguous_format)
            if _contiguous not in hooks:
                module.register_forward_pre_hook(_contiguous)


def _contiguous(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return tuple(x.contiguous() for x in inputs)


@HOOKS.register_module()
class CPUSpeedHook(Hook):
    """Speeds up training and testing on a CPU; does nothing on a GPU.

    See :func:`keep_freed_memory` and :func:`use_channels_last`: the
    arithmetic stays, sums are added up in another order.
    """

    def apply(self, model: nn.Module) -> None:
        """Switch both on, if the model is on a CPU.

        Args:
            model: A detector, perhaps in a wrapper.
        """
        if next(model.parameters()).device.type != 'cpu':
            return
        keep_freed_memory()
        use_channels_last(model)

    def before_train(self, runner: Runner) -> None:
        """Speed up training."""
        self.apply(runner.model)

    def before_val(self, runner: Runner) -> None:
        """Speed up validation."""
        self.apply(runner.model)

    def before_test(self, runner: Runner) -> None:
        """Speed up testing."""
        self.apply(runner.model)
