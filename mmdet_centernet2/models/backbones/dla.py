"""Deep layer aggregation backbones."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from mmcv.cnn import build_norm_layer
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers import recompute


def conv_norm(
    in_channels: int, out_channels: int, kernel: int, stride: int, norm_cfg: ConfigType
) -> list[nn.Module]:
    """A convolution without bias, and its norm."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False
    )
    return [conv, build_norm_layer(norm_cfg, out_channels)[1]]


class DLABasicBlock(BasicBlock):
    """ResNet's block with a residual that the tree gives."""

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(B, C_in, H, W) and the residual (B, C, H / s, W / s)."""
        out = self.norm1(self.conv1(x)).relu()
        return (self.norm2(self.conv2(out)) + residual).relu()


class DLABottleneck(Bottleneck):
    """ResNet's bottleneck, half as wide inside, with a residual that the tree gives."""

    expansion = 2

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(B, C_in, H, W) and the residual (B, C, H / s, W / s)."""
        out = self.norm1(self.conv1(x)).relu()
        out = self.norm2(self.conv2(out)).relu()
        return (self.norm3(self.conv3(out)) + residual).relu()


class DLATree(nn.Module):
    """Hierarchical aggregation of ``2 ** depth`` blocks.

    In a tree deeper than one, the projection is never used, but ImageNet
    weights and the original's checkpoints hold it: it is kept frozen.

    Args:
        depth: Levels of the hierarchy.
        block: :class:`DLABasicBlock` or :class:`DLABottleneck`.
        level_root: Whether the input takes part in the aggregation.
        extra_channels: Of further children that the parent passes.
    """

    def __init__(
        self,
        depth: int,
        block: type[BasicBlock | Bottleneck],
        in_channels: int,
        out_channels: int,
        stride: int,
        level_root: bool,
        norm_cfg: ConfigType,
        extra_channels: int = 0,
    ) -> None:
        super().__init__()
        self.stride, self.level_root = stride, level_root
        self.is_leaf = depth == 1
        if level_root:
            extra_channels += in_channels
        if self.is_leaf:
            width = out_channels // block.expansion
            self.tree1 = block(in_channels, width, stride, norm_cfg=norm_cfg)
            self.tree2 = block(out_channels, width, norm_cfg=norm_cfg)
            mix = conv_norm(2 * out_channels + extra_channels, out_channels, 1, 1, norm_cfg)
            self.root = nn.Sequential(OrderedDict(zip(('conv', 'bn'), mix)))
        else:
            make = partial(DLATree, depth - 1, block, level_root=False, norm_cfg=norm_cfg)
            self.tree1 = make(in_channels, out_channels, stride)
            self.tree2 = make(
                out_channels, out_channels, 1, extra_channels=extra_channels + out_channels
            )
        if in_channels != out_channels:
            self.project = nn.Sequential(*conv_norm(in_channels, out_channels, 1, 1, norm_cfg))
            self.project.requires_grad_(self.is_leaf)

    def forward(self, x: Tensor, children: Sequence[Tensor] = ()) -> Tensor:
        """(B, C_in, H, W) and the parent's children to (B, C, H / s, W / s)."""
        bottom = x
        if self.stride > 1:  # rounded up, as in the blocks
            bottom = nn.functional.max_pool2d(x, self.stride, ceil_mode=True)
        if self.level_root:
            children = [bottom, *children]
        if not self.is_leaf:
            x1 = self.tree1(x)
            return self.tree2(x1, [*children, x1])
        x1 = self.tree1(x, self.project(bottom) if hasattr(self, 'project') else bottom)
        x2 = self.tree2(x1, x1)
        return self.root(torch.cat([x2, x1, *children], 1)).relu()


@MODELS.register_module()
class DLA(BaseModule):
    """Deep layer aggregation network, with the original's tensor names.

    Args:
        depth: 34 or 60.
        out_indices: Levels to return, 0 to 5; level ``i`` has stride ``2 **
            i``. Defaults to (3, 4, 5).
        norm_cfg: Of all norms. Defaults to trainable BN.
        norm_eval: Keep norms in evaluation mode.
        with_cp: Trade time for memory in training: every level is computed a
            second time in the backward pass.
        init_cfg: Initialisation; Kaiming by default.

    Raises:
        ValueError: If the depth or a level is unknown, or none is wanted.

    Source: "Deep Layer Aggregation" (arXiv 1707.06484).
    """

    #: depth: (block, tree depths of levels 2 to 5, channels of levels 0 to 5)
    arch_settings: dict[int, tuple[type[BasicBlock | Bottleneck], Sequence[int], Sequence[int]]] = {
        34: (DLABasicBlock, (1, 2, 2, 1), (16, 32, 64, 128, 256, 512)),
        60: (DLABottleneck, (1, 2, 3, 1), (16, 32, 128, 256, 512, 1024)),
    }

    def __init__(
        self,
        depth: int = 34,
        out_indices: Sequence[int] = (3, 4, 5),
        norm_cfg: ConfigType = dict(type='BN', requires_grad=True),
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        if depth not in self.arch_settings:
            raise ValueError(f'depth must be one of {tuple(self.arch_settings)}, got {depth}')
        if not out_indices or not set(out_indices) <= set(range(6)):
            raise ValueError(
                f'out_indices must name one or more of levels 0 to 5, got {tuple(out_indices)}'
            )
        super().__init__(init_cfg=init_cfg or dict(type='Kaiming', layer='Conv2d'))
        self.out_indices, self.norm_eval = tuple(out_indices), norm_eval
        self.with_cp = with_cp
        block, depths, channels = self.arch_settings[depth]
        self.out_channels = [channels[i] for i in self.out_indices]

        def plain(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                *conv_norm(in_channels, out_channels, kernel, stride, norm_cfg),
                nn.ReLU(inplace=True),
            )

        self.base_layer = plain(3, channels[0], 7, 1)
        self.level0 = plain(channels[0], channels[0], 3, 1)
        self.level1 = plain(channels[0], channels[1], 3, 2)
        for i, tree_depth in enumerate(depths, start=2):
            tree = DLATree(tree_depth, block, channels[i - 1], channels[i], 2, i > 2, norm_cfg)
            self.add_module(f'level{i}', tree)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of the levels ``out_indices`` of images (B, 3, H, W)."""
        run = recompute if self.with_cp else lambda layer, x: layer(x)
        x = run(self.base_layer, x)
        outs = []
        for i in range(max(self.out_indices) + 1):
            x = run(getattr(self, f'level{i}'), x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> 'DLA':
        """Set the mode, norms in evaluation mode if so configured."""
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self
