"""Deformable convolution for half precision and channels-last, too."""

from mmcv.ops import ModulatedDeformConv2dPack, modulated_deform_conv
from mmdet.registry import MODELS
from torch import Tensor

from .disable import disable_autocast, disable_compile


@MODELS.register_module()
class ExactDeformConv(ModulatedDeformConv2dPack):
    """mmcv's ``DCNv2``, always in FP32 and of contiguous tensors.

    mmcv's operator has no bfloat16 kernel, takes offsets rounded to half
    precision, and reads channels-last tensors as if they were contiguous.
    Not compiled. In a backbone of mmdet's::

        dcn=dict(type='ExactDeformConv', deform_groups=1,
                 fallback_on_stride=False)
    """

    @disable_compile
    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H', W') of the same dtype."""
        dtype = x.dtype
        with disable_autocast(x.device):
            x = x.to(self.weight.dtype).contiguous()
            out = self.conv_offset(x)
            num_offsets = 2 * self.deform_groups * self.weight[0, 0].numel()
            # slices, since `chunk` does not export well
            offset, mask = out[:, :num_offsets], out[:, num_offsets:]
            out = modulated_deform_conv.modulated_deform_conv2d(
                x,
                offset.contiguous(),
                mask.sigmoid().contiguous(),
                self.weight.contiguous(),
                self.bias,
                self.stride,
                self.padding,
                self.dilation,
                self.groups,
                self.deform_groups,
            )
        return out.to(dtype)
