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
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn

from mmdet_centernet2.engine.optimizers.bf16 import cpu_has_bf16, warn_about_bf16
from mmdet_centernet2.models.backbones.dla import DLABasicBlock, DLABottleneck
from mmdet_centernet2.models.dense_heads import CenterNet2ProposalHead
from mmdet_centernet2.models.layers.deform_conv import ExactDeformConv

from .cpu_speed import keep_freed_memory, use_channels_last

#: Arithmetic of the convolutions and matrix products.
MODES = {'exact': torch.float32, 'bf16': torch.bfloat16}
#: Residual blocks that :class:`FusedBlock` can stand for, by their forward method.
_FUSED_BLOCKS = {kind.forward for kind in (BasicBlock, Bottleneck, DLABasicBlock, DLABottleneck)}


def speed_up(model: nn.Module, mode: str = 'exact') -> nn.Module:
    """Prepare a detector for fast inference, in place and for good.

    Frozen norms go into their convolutions, and maps become channels-last. On
    a CPU freed memory is kept and oneDNN runs convolutions, linear layers and
    residual blocks, with their ReLUs and sums. The model can be neither trained
    nor saved afterwards. Scores move by about 1e-6 (``exact``). With ``bf16``,
    coordinates, probabilities, decoding and NMS stay FP32, deformable
    convolutions too; of equal scores no more proposals come through than the
    config allows.

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
    if mode == 'bf16':
        _use_dtype(detector, MODES[mode])
        onednn = onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    use_channels_last(detector)
    if on_cpu:
        keep_freed_memory()
    if onednn:
        _use_onednn(detector)
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


class OneDNNLinear(nn.Linear):
    """On some CPUs oneDNN's product is three times as fast as the BLAS."""

    def forward(self, x: Tensor) -> Tensor:
        if not x.numel():  # no boxes
            return super().forward(x)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, 'none', [], '')


class OneDNNConv2d(nn.Conv2d):
    """On one thread torch would leave 1x1 convolutions to the BLAS, which is slower."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not x.numel():  # no boxes
            return super()._conv_forward(x, weight, bias)
        return self.run(x, 'none')

    def run(self, x: Tensor, activation: str) -> Tensor:
        """What comes out, with ``activation``: ``none`` or ``relu``."""
        operator = torch.ops.mkldnn._convolution_pointwise
        return operator(x, *self._options(), activation, [], '')

    def add(self, x: Tensor, residual: Tensor, in_place: bool) -> Tensor:
        """ReLU of the residual and what comes out, in place of the residual or not."""
        options = *self._options(), 'add', 1.0, 'relu', [], ''
        if in_place:
            return torch.ops.mkldnn._convolution_pointwise_.binary(residual, x, *options)
        return torch.ops.mkldnn._convolution_pointwise.binary(x, residual, *options)

    def _options(self) -> tuple:
        return self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups


class FusedBlock(nn.Module):
    """A residual block whose ReLUs and sum are part of oneDNN's convolutions.

    Each would read and write the whole map once more.

    Args:
        block: A block with folded norms and convolutions of :class:`OneDNNConv2d`.
        in_place: Whether nothing else reads the residual; the sum may then take its place.
    """

    def __init__(self, block: BasicBlock | Bottleneck, in_place: bool) -> None:
        super().__init__()
        convs = [conv for name, conv in block.named_children() if name.startswith('conv')]
        self.convs = nn.ModuleList(convs)
        self.downsample = block.downsample
        self.in_place = in_place

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """As ResNet's blocks, and as DLA's, which get the residual."""
        if residual is None:
            residual = x if self.downsample is None else self.downsample(x)
        *inner, last = self.convs
        for conv in inner:
            x = conv.run(x, 'relu')
        return last.add(x, residual, self.in_place)


def _use_onednn(detector: nn.Module) -> None:
    """Let oneDNN run plain convolutions, linear layers and residual blocks."""
    for module in detector.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneDNNLinear
        elif type(module) is nn.Conv2d and module.padding_mode == 'zeros':
            if isinstance(module.padding, tuple):  # not 'same' or 'valid'
                module.__class__ = OneDNNConv2d
    for parent in list(detector.modules()):
        before = None
        for name, block in list(parent.named_children()):
            parts = {type(part) for key, part in block.named_children() if key != 'downsample'}
            plain = parts <= {OneDNNConv2d, nn.Identity, nn.ReLU}
            if plain and getattr(type(block), 'forward', None) in _FUSED_BLOCKS:
                # in a sequence, only the next block reads what a block gives
                own = block.downsample is not None or isinstance(before, FusedBlock)
                block = FusedBlock(block, own and isinstance(parent, nn.Sequential))
                setattr(parent, name, block)
            before = block


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
        # a checkpoint holds the averaged weights; EMAHook would swap them for unfolded ones
        runner._hooks = [hook for hook in runner.hooks if not isinstance(hook, EMAHook)]
        self.apply(runner.model)
