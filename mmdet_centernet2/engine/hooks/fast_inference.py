"""Detect faster, with the same detections: one switch.

What it does was chosen by measurement. On two CPU cores channels-last maps,
kept memory and oneDNN's products give most of it, folded norms and ReLUs a
little, ``torch.compile`` with frozen weights nothing more. BF16 halves the
rest where the processor computes in it (AVX512-BF16, AMX, or a GPU).
"""

from collections.abc import Iterator
from typing import Any

import torch
from mmcv.cnn import fuse_conv_bn
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.mkldnn import MkldnnLinear

from mmdet_centernet2.engine.optimizers.bf16 import cpu_has_bf16, warn_about_bf16
from mmdet_centernet2.models.backbones.dla import DLABasicBlock, DLABottleneck
from mmdet_centernet2.models.dense_heads import CenterNet2ProposalHead
from mmdet_centernet2.models.layers.deform_conv import ExactDeformConv

from .cpu_speed import keep_freed_memory, use_channels_last

#: Arithmetic of the convolutions and matrix products.
MODES = {'exact': torch.float32, 'bf16': torch.bfloat16}
#: Linear layers with fewer inputs are not worth their packed weights.
LARGE_LINEAR = 4096
#: Residual blocks that :class:`FusedBlock` can stand for, by their forward method.
_FUSED_BLOCKS = {kind.forward for kind in (BasicBlock, Bottleneck, DLABasicBlock, DLABottleneck)}


def speed_up(model: nn.Module, mode: str = 'exact') -> nn.Module:
    """Prepare a detector for fast inference, in place and for good.

    Frozen norms go into their convolutions, maps become channels-last, and
    on a CPU freed memory is kept, large linear layers run in oneDNN, and so
    do residual blocks, with their ReLUs and sums. The
    model can be neither trained nor saved afterwards. Scores move by about
    1e-6 (``exact``). With ``bf16``, coordinates, probabilities, decoding and
    NMS stay FP32, deformable convolutions too; of equal scores no more
    proposals come through than the config allows.

    Args:
        model: A detector with its weights, on its device; may be
            wrapped for several processes or for test-time augmentation.
        mode: ``exact`` (FP32) or ``bf16``; on a CPU without BF16 arithmetic
            ``exact`` takes its place, with a warning.

    Raises:
        ValueError: If ``mode`` is not one of these.
    """
    if mode not in MODES:
        raise ValueError(f'mode must be one of {list(MODES)}, got {mode!r}')
    detector = bare_detector(model).eval()
    on_cpu = next(detector.parameters()).device.type == 'cpu'
    if mode == 'bf16' and on_cpu and not cpu_has_bf16():
        warn_about_bf16(
            "Fast inference takes 'exact' instead of 'bf16', which would be several times slower."
        )
        mode = 'exact'
    for name, part in list(detector.named_children()):
        setattr(detector, name, fuse_conv_bn(part))
    onednn = on_cpu and torch.backends.mkldnn.is_available()
    if MODES[mode] != torch.float32:
        _use_dtype(detector, MODES[mode])
    elif onednn:
        _use_onednn_linear(detector)
    use_channels_last(detector)
    if on_cpu:
        keep_freed_memory()
    if onednn:
        _fuse_blocks(detector)
    return model


def bare_detector(model: nn.Module) -> nn.Module:
    """The detector inside wrappers."""
    while not hasattr(model, 'backbone') and hasattr(model, 'module'):
        model = model.module
    return model


def _second_stages(detector: nn.Module) -> Iterator[nn.Module]:
    """Box and mask heads of the second stage."""
    for name in ('bbox_head', 'mask_head'):
        heads = getattr(getattr(detector, 'roi_head', None), name, None)
        if heads is not None:
            yield from heads if isinstance(heads, nn.ModuleList) else [heads]


def _use_dtype(detector: nn.Module, dtype: torch.dtype) -> None:
    """Compute in half precision; what comes out of the heads is FP32."""
    for name, part in detector.named_children():
        if name != 'data_preprocessor':
            part.to(dtype)
    for entrance in (detector.backbone, *_second_stages(detector)):
        entrance.register_forward_pre_hook(lambda module, args: _cast(args, dtype))
    for head in _second_stages(detector):
        head.register_forward_hook(lambda module, args, out: _cast(out, torch.float32))
    for module in detector.modules():
        if isinstance(module, ExactDeformConv):
            module.float()  # it casts what goes in and out itself
        elif isinstance(module, CenterNet2ProposalHead):
            module.conv_reg.float()  # what goes in is cast
            module.scales.float()


def _cast(values: Any, dtype: torch.dtype) -> Any:
    """Cast a tensor, or those in a tuple."""
    if isinstance(values, tuple):
        return tuple(_cast(value, dtype) for value in values)
    return values if values is None else values.to(dtype)


def _use_onednn_linear(detector: nn.Module) -> None:
    """oneDNN's product is three times as fast as the BLAS on some CPUs."""
    for head in _second_stages(detector):
        for parent in list(head.modules()):
            for name, module in list(parent.named_children()):
                if type(module) is nn.Linear and module.in_features >= LARGE_LINEAR:
                    setattr(parent, name, MkldnnLinear(module, torch.float))


class FusedBlock(nn.Module):
    """A residual block whose ReLUs and sum are part of oneDNN's convolutions.

    Each would read and write the whole map once more.
    """

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        convs = [conv for name, conv in block.named_children() if name.startswith('conv')]
        self.convs = nn.ModuleList(convs)
        self.downsample = block.downsample

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """As ResNet's blocks, and as DLA's, which get the residual."""
        if residual is None:
            residual = x if self.downsample is None else self.downsample(x)
        *inner, last = (
            (conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups)
            for conv in self.convs
        )
        operator = torch.ops.mkldnn._convolution_pointwise
        for conv in inner:
            x = operator(x, *conv, 'relu', [], '')
        return operator.binary(x, residual, *last, 'add', 1.0, 'relu', [], '')


def _fuse_blocks(detector: nn.Module) -> None:
    """Put a :class:`FusedBlock` in the place of blocks of plain convolutions and folded norms."""
    for parent in list(detector.modules()):
        for name, block in list(parent.named_children()):
            parts = {type(part) for key, part in block.named_children() if key != 'downsample'}
            plain = parts <= {nn.Conv2d, nn.Identity, nn.ReLU}
            if plain and getattr(type(block), 'forward', None) in _FUSED_BLOCKS:
                setattr(parent, name, FusedBlock(block))


def speed_up_as_configured(model: nn.Module, cfg: Config) -> nn.Module:
    """Apply the :class:`FastInferenceHook` of a config, where it has one.

    For programs that run a model without mmengine's runner.
    """
    for hook in cfg.get('custom_hooks', []):
        if hook['type'] == 'FastInferenceHook':
            HOOKS.build(hook).apply(model)
    return model


@HOOKS.register_module()
class FastInferenceHook(Hook):
    """Calls :func:`speed_up` before a model is tested; not in training.

    Args:
        mode: See :func:`speed_up`. Defaults to ``exact``.
    """

    def __init__(self, mode: str = 'exact') -> None:
        if mode not in MODES:
            raise ValueError(f'mode must be one of {list(MODES)}, got {mode!r}')
        self.mode = mode

    def apply(self, model: nn.Module) -> None:
        """Speed a model up and say so."""
        print_log(f'Fast inference: {self.mode}.', 'current')
        speed_up(model, self.mode)

    def before_test(self, runner: Runner) -> None:
        """Speed up the model that is tested."""
        self.apply(runner.model)
