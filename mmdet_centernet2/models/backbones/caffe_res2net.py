"""Res2Net as the original's detectors use it."""
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.models.backbones import Res2Net
from mmdet.registry import MODELS
from torch import nn


@MODELS.register_module()
class CaffeRes2Net(Res2Net):
    """``Res2Net`` with the stride on the first 1x1 convolution.

    mmdet's ignores its ``style``. With the stride on the 1x1, the last split
    of a stage's first block is not pooled (Q2). The offsets of deformable
    convolutions have no bias in the original: here it stays zero, frozen
    (Q3).

    Args:
        **kwargs: See mmdet's ``Res2Net``.

    Source: spec §2.7, Q2, Q3.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        for module in self.modules():
            if isinstance(module, ModulatedDeformConv2dPack):
                nn.init.zeros_(module.conv_offset.bias)
                module.conv_offset.bias.requires_grad_(False)

    def make_res_layer(self, **kwargs) -> nn.Sequential:
        """Build a stage with Caffe's place for the stride."""
        return super().make_res_layer(**{**kwargs, 'style': 'caffe'})
