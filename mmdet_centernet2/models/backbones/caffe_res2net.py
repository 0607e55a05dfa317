"""Res2Net as the original's detectors use it."""

from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.models.backbones import Res2Net
from mmdet.registry import MODELS
from mmengine.model import kaiming_init
from torch import nn


@MODELS.register_module()
class CaffeRes2Net(Res2Net):
    """``Res2Net`` with the stride on the first 1x1 convolution.

    mmdet's ignores its ``style``. With the stride on the 1x1, the last split
    of a stage's first block is not pooled. The offsets of deformable
    convolutions have no bias in the original: here it stays zero, frozen.
    See docs/differences.md, 5 and 6.

    Args:
        **kwargs: See mmdet's ``Res2Net``.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        for conv in self._deformable():
            nn.init.zeros_(conv.conv_offset.bias)
            conv.conv_offset.bias.requires_grad_(False)

    def init_weights(self) -> None:
        """As mmdet's, but offsets start at zero and their kernels are initialised."""
        done = self.is_init
        super().init_weights()
        cfgs = [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg or []
        if done or any(cfg['type'] == 'Pretrained' for cfg in cfgs):
            return
        for conv in self._deformable():
            kaiming_init(conv)
            nn.init.zeros_(conv.conv_offset.weight)

    def _deformable(self) -> list[ModulatedDeformConv2dPack]:
        return [conv for conv in self.modules() if isinstance(conv, ModulatedDeformConv2dPack)]

    def make_res_layer(self, **kwargs) -> nn.Sequential:
        """Build a stage with Caffe's place for the stride."""
        return super().make_res_layer(**{**kwargs, 'style': 'caffe'})
