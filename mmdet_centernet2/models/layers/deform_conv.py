"""Deformable convolution that survives half precision and channels-last."""
import torch
from mmcv.ops import ModulatedDeformConv2dPack, modulated_deform_conv
from mmdet.registry import MODELS
from torch import Tensor

from .full_precision import full_precision


@MODELS.register_module()
class ExactDeformConv(ModulatedDeformConv2dPack):
    """mmcv's ``DCNv2``, always in FP32 and of contiguous tensors.

    Parameters, their names and the numbers are those of mmcv's. But mmcv's
    operator has no bfloat16 kernel, takes offsets rounded to half precision,
    and reads channels-last tensors as if they were contiguous.
    ``torch.compile`` leaves this layer as it is. In a backbone of mmdet's::

        dcn=dict(type='ExactDeformConv', deform_groups=1,
                 fallback_on_stride=False)

    Args:
        *args: See mmcv's ``ModulatedDeformConv2dPack``.
        **kwargs: See there.
    """

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x (Tensor): Shape (B, C_in, H, W), of any floating-point type.

        Returns:
            Tensor: Shape (B, C_out, H', W'), of that type.
        """
        dtype = x.dtype
        with full_precision(x.device):
            x = x.to(self.weight.dtype).contiguous()
            both = self.conv_offset(x)
            cut = 2 * self.deform_groups * self.weight[0, 0].numel()
            moves, mask = both[:, :cut], both[:, cut:]  # slices export well
            out = modulated_deform_conv.modulated_deform_conv2d(
                x, moves.contiguous(),
                mask.sigmoid().contiguous(), self.weight.contiguous(),
                self.bias, self.stride, self.padding, self.dilation,
                self.groups, self.deform_groups)
        return out.to(dtype)
