"""BiFPN necks: the variants of EfficientDet and of FCOS."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers import recompute

GN = dict(type='GN', num_groups=32, requires_grad=True)


class Node(NamedTuple):
    """One fusion of a cell."""

    level: int  # 0 the finest
    inputs: tuple[int, ...]  # into the cell's inputs, then the earlier nodes' results


def bifpn_graph(num_levels: int) -> list[Node]:
    """Nodes of a cell: down to the finest level, then up again.

    The last ``num_levels`` results are the cell's outputs.

    Raises:
        ValueError: If there are fewer than 3 levels.

    Source: "EfficientDet", figure 3.
    """
    if num_levels < 3:
        raise ValueError(f'a BiFPN needs at least 3 levels, got {num_levels}')
    nodes, latest = [], list(range(num_levels))

    def add(level: int, *inputs: int) -> None:
        nodes.append(Node(level, inputs))
        latest[level] = num_levels + len(nodes) - 1

    for level in range(num_levels - 2, -1, -1):
        add(level, level, latest[level + 1])
    for level in range(1, num_levels - 1):
        add(level, level, latest[level], latest[level - 1])
    add(num_levels - 1, num_levels - 1, latest[num_levels - 2])
    return nodes


def fuse(maps: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Fast normalised fusion of maps of equal shape."""
    weights = weights.relu()
    total = sum(x * w for x, w in zip(maps, weights))
    return total / (weights.sum() + 1e-4)


def resize(x: Tensor, size: Sequence[int], halve: Callable[[Tensor], Tensor]) -> Tensor:
    """Halve a map that is larger than (H, W), or up-sample it to that size."""
    if x.size(-2) > size[0] or x.size(-1) > size[1]:
        x = halve(x)
    if x.shape[-2:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode='nearest')


def _max_pool_2x2(x: Tensor) -> Tensor:
    """To half the size, rounded up, as :func:`_max_pool_3x3`."""
    return F.max_pool2d(x, 2, ceil_mode=True)


def _max_pool_3x3(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2, padding=1)


class BiFPNBase(BaseModule):
    """What both flavours share.

    Args:
        in_channels: Of each input, finest first.
        out_channels: Of all outputs.
        num_outs: Number of levels; those beyond the inputs are made from the
            coarsest one.
        num_cells: How often the cell is repeated.
        norm_cfg: Of all norms. Defaults to 32-group GN.
        with_cp: Trade time for memory in training: every cell is computed a
            second time in the backward pass.
        init_cfg: Initialisation; PyTorch's by default, as in the original.

    Raises:
        ValueError: If there are no inputs or cells, or fewer outputs than
            inputs or than 3.
    """

    cells_name: str  # in the state dict
    cell_type: type[nn.Module]

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int = 5,
        num_cells: int = 3,
        norm_cfg: ConfigType = GN,
        with_cp: bool = False,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not in_channels:
            raise ValueError('in_channels must name at least one input')
        if num_cells < 1:
            raise ValueError(f'num_cells must be at least 1, got {num_cells}')
        if num_outs < len(in_channels):
            raise ValueError(
                f'num_outs={num_outs} is less than the number of inputs, {len(in_channels)}'
            )
        self.with_cp = with_cp
        self.num_ins, self.num_outs = len(in_channels), num_outs
        self.num_extra = num_outs - len(in_channels)
        first_cell = list(in_channels) + [out_channels] * self.num_extra
        widths = [first_cell] + [[out_channels] * num_outs] * (num_cells - 1)
        if self.num_extra:
            self._init_projection(in_channels[-1], out_channels, norm_cfg)
        cells = [self.cell_type(channels, out_channels, norm_cfg) for channels in widths]
        self.add_module(self.cells_name, nn.Sequential(*cells))

    def _init_projection(self, in_channels: int, out_channels: int, norm_cfg: ConfigType) -> None:
        """Build the projection before the first extra level."""
        raise NotImplementedError

    def _coarser(self, x: Tensor, project: bool) -> Tensor:
        """The next coarser level; only the first extra one is projected."""
        raise NotImplementedError

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (B, C_i, H_i, W_i), finest first, to ``num_outs`` of ``out_channels``."""
        if len(inputs) != self.num_ins:
            raise ValueError(
                f'{type(self).__name__} was built for {self.num_ins} inputs, got {len(inputs)}'
            )
        maps = list(inputs)
        for i in range(self.num_extra):
            maps.append(self._coarser(maps[-1], project=i == 0))
        for cell in getattr(self, self.cells_name):
            maps = recompute(cell, maps) if self.with_cp else cell(maps)
        return tuple(maps)


class ConvBN(nn.Module):
    """Convolution without bias, then norm, under those two names."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, norm_cfg: ConfigType
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        self.bn = build_norm_layer(norm_cfg, out_channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H, W)."""
        return self.bn(self.conv(x))


def _resample(in_channels: int, out_channels: int, norm_cfg: ConfigType) -> nn.Sequential:
    """1x1 projection, or nothing where channels agree."""
    layer = nn.Sequential()
    if in_channels != out_channels:
        layer.add_module('conv', ConvBN(in_channels, out_channels, 1, norm_cfg))
    return layer


class _Combine(nn.Module):
    """Bring inputs to one size and width, and fuse them."""

    def __init__(
        self,
        inputs: Sequence[int],
        channels: Sequence[int],
        out_channels: int,
        norm_cfg: ConfigType,
    ) -> None:
        super().__init__()
        self.resample = nn.ModuleDict(
            {str(i): _resample(channels[i], out_channels, norm_cfg) for i in inputs}
        )
        self.edge_weights = nn.Parameter(torch.ones(len(inputs)))

    def forward(self, maps: Sequence[Tensor], size: torch.Size) -> Tensor:
        """Fuse those of ``maps`` that this node reads, at ``size``."""
        inputs = [
            resize(project(maps[int(i)]), size, _max_pool_2x2)
            for i, project in self.resample.items()
        ]
        return fuse(inputs, self.edge_weights)


class _EffdetCell(nn.Module):
    """All nodes of one repetition."""

    def __init__(self, channels: Sequence[int], out_channels: int, norm_cfg: ConfigType) -> None:
        super().__init__()
        self.graph = bifpn_graph(len(channels))
        widths = list(channels) + [out_channels] * len(self.graph)
        self.fnode = nn.ModuleList()
        for node in self.graph:
            combine = _Combine(node.inputs, widths, out_channels, norm_cfg)
            conv = ConvBN(out_channels, out_channels, 3, norm_cfg)
            after = nn.Sequential(OrderedDict(act=nn.SiLU(), conv=conv))
            self.fnode.append(nn.ModuleDict(dict(combine=combine, after_combine=after)))

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Outputs of the same sizes as the inputs."""
        maps = list(inputs)
        for node, layers in zip(self.graph, self.fnode):
            size = inputs[node.level].shape[-2:]
            combined = layers['combine'](maps, size)  # type: ignore[index]
            maps.append(layers['after_combine'](combined))  # type: ignore[index]
        return maps[-len(inputs) :]


@MODELS.register_module()
class BiFPN(BiFPNBase):
    """BiFPN in the flavour of EfficientDet.

    Every node projects its own inputs; down-sampling is max-pooling with a
    2x2 kernel. Args: see :class:`BiFPNBase`.

    Source: "EfficientDet" (arXiv 1911.09070); docs/differences.md, 10.
    """

    cells_name, cell_type = 'cell', _EffdetCell

    def _init_projection(self, in_channels: int, out_channels: int, norm_cfg: ConfigType) -> None:
        projection = _resample(in_channels, out_channels, norm_cfg)
        self.resample = nn.ModuleDict({str(self.num_ins): projection})

    def _coarser(self, x: Tensor, project: bool) -> Tensor:
        return _max_pool_2x2(self.resample[str(self.num_ins)](x) if project else x)


class NormedConv2d(nn.Conv2d):
    """Convolution that owns its norm, so that names are ``weight, norm.*``."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, norm_cfg: ConfigType, bias: bool
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)
        self.norm = build_norm_layer(norm_cfg, out_channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H, W)."""
        return self.norm(super().forward(x))


class _FCOSCell(nn.Module):
    """One repetition; inputs of one level share their projection."""

    def __init__(self, channels: Sequence[int], out_channels: int, norm_cfg: ConfigType) -> None:
        super().__init__()
        self.graph = bifpn_graph(len(channels))
        widths = list(channels) + [out_channels] * len(self.graph)
        for node in self.graph:
            name = self._name(node)
            for i in node.inputs:
                lateral = f'lateral_{i}_f{node.level}'
                if widths[i] != out_channels and not hasattr(self, lateral):
                    self.add_module(
                        lateral, NormedConv2d(widths[i], out_channels, 1, norm_cfg, True)
                    )
            self.register_parameter(f'weights_{name}', nn.Parameter(torch.ones(len(node.inputs))))
            self.add_module(
                f'outputs_{name}', NormedConv2d(out_channels, out_channels, 3, norm_cfg, False)
            )

    @staticmethod
    def _name(node: Node) -> str:
        return '_'.join([f'f{node.level}', *map(str, node.inputs)])

    def _read(self, x: Tensor, index: int, level: int, size: torch.Size) -> Tensor:
        """Input ``index`` of a node of ``level``, projected, at ``size``."""
        lateral = f'lateral_{index}_f{level}'
        if hasattr(self, lateral):
            x = getattr(self, lateral)(x)
        return resize(x, size, _max_pool_3x3)

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Outputs of the same sizes as the inputs."""
        maps = list(inputs)
        for node in self.graph:
            name, size = self._name(node), inputs[node.level].shape[-2:]
            fused = fuse(
                [self._read(maps[i], i, node.level, size) for i in node.inputs],
                getattr(self, f'weights_{name}'),
            )
            maps.append(getattr(self, f'outputs_{name}')(F.silu(fused)))
        return maps[-len(inputs) :]


@MODELS.register_module()
class FCOSBiFPN(BiFPNBase):
    """BiFPN in the flavour that the original's other DLA models use.

    Against :class:`BiFPN`: projections have a bias and are shared by the
    nodes of a level, down-sampling is max-pooling with a 3x3 kernel. The
    weights of the two do not fit each other. Args: see :class:`BiFPNBase`.

    Source: the tensors of the original's checkpoints; docs/differences.md, 10
    and 11.
    """

    cells_name, cell_type = 'cells', _FCOSCell

    def _init_projection(self, in_channels: int, out_channels: int, norm_cfg: ConfigType) -> None:
        self.reduction = NormedConv2d(in_channels, out_channels, 1, norm_cfg, False)

    def _coarser(self, x: Tensor, project: bool) -> Tensor:
        return _max_pool_3x3(self.reduction(x) if project else x)
