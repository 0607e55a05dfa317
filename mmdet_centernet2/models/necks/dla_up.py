"""Up-sampling neck of the stride-4 DLA models."""

from collections.abc import Sequence

import torch
from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers import ExactDeformConv


class DeformNode(nn.Module):
    """Modulated deformable 3x3 convolution **with bias**, norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, norm_cfg: ConfigType) -> None:
        super().__init__()
        self.conv = ExactDeformConv(in_channels, out_channels, 3, padding=1, bias=True)
        self.actf = nn.Sequential(
            build_norm_layer(norm_cfg, out_channels)[1], nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H, W)."""
        return self.actf(self.conv(x))


def bilinear_upsample(channels: int, factor: int) -> nn.ConvTranspose2d:
    """Trainable depth-wise up-sampling that starts as the bilinear one."""
    up = nn.ConvTranspose2d(
        channels, channels, 2 * factor, factor, factor // 2, groups=channels, bias=False
    )
    ramp = 1 - ((torch.arange(2 * factor) + 0.5) / factor - 1).abs()
    up.weight.data.copy_((ramp[:, None] * ramp).expand_as(up.weight))
    return up


class IDAUp(nn.Module):
    """Iterative aggregation of ever coarser maps into the finest.

    Args:
        in_channels: Of each map, finest first.
        factors: Up-sampling factor of each map; the first is not used.
    """

    def __init__(
        self,
        out_channels: int,
        in_channels: Sequence[int],
        factors: Sequence[int],
        norm_cfg: ConfigType,
    ) -> None:
        super().__init__()
        for i in range(1, len(in_channels)):
            self.add_module(f'proj_{i}', DeformNode(in_channels[i], out_channels, norm_cfg))
            self.add_module(f'up_{i}', bilinear_upsample(out_channels, factors[i]))
            self.add_module(f'node_{i}', DeformNode(out_channels, out_channels, norm_cfg))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The first of ``maps``, finest first, then each aggregate in turn."""
        outs = [maps[0]]
        for i in range(1, len(maps)):
            project, up, node = (getattr(self, f'{name}_{i}') for name in ('proj', 'up', 'node'))
            outs.append(node(up(project(maps[i])) + outs[-1]))
        return outs


@MODELS.register_module()
class DLAUpNeck(BaseModule):
    """The two aggregations on top of a stride-4 DLA: one map, stride 4.

    The second joins the three finest results of the first.

    Args:
        in_channels: Of each input, finest first, strides doubling; those of
            DLA-34's levels 2 to 5.
        norm_cfg: Of all norms. Defaults to trainable BN.

    Source: "Deep Layer Aggregation" (arXiv 1707.06484);
    docs/differences.md, 14.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (64, 128, 256, 512),
        norm_cfg: ConfigType = dict(type='BN', requires_grad=True),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.dla_up = nn.ModuleDict()
        widths = list(in_channels)
        for i, first in enumerate(reversed(range(len(widths) - 1))):
            count = len(widths) - first
            ida = IDAUp(widths[first], widths[first:], [1] + [2] * (count - 1), norm_cfg)
            self.dla_up[f'ida_{i}'] = ida
            widths[first:] = [widths[first]] * count
        self.ida_up = IDAUp(in_channels[0], in_channels[:3], [1, 2, 4], norm_cfg)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor]:
        """Maps (B, C_i, H_i, W_i), finest first, to one like the first."""
        maps = list(inputs)
        aggregates = [maps[-1]]  # finest first
        for i, ida in enumerate(self.dla_up.values()):
            first = len(maps) - 2 - i
            maps[first:] = ida(maps[first:])
            aggregates.insert(0, maps[-1])
        return (self.ida_up(aggregates[:3])[-1],)
