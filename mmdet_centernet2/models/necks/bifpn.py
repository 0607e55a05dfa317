"""BiFPN necks: the variants of EfficientDet and of FCOS."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers import recompute

GN = dict(type='GN', num_groups=32, requires_grad=True)


def bifpn_graph(num_levels: int) -> list[tuple[int, tuple[int, ...]]]:
    """Nodes of a cell: down to the finest level, then up again.

    A node is its level, 0 the finest, and its inputs, as indices into the
    cell's inputs, then the results of earlier nodes. The last ``num_levels``
    results are the cell's outputs.

    Source: "EfficientDet", figure 3.
    """
    nodes, latest = [], list(range(num_levels))

    def add(level: int, *inputs: int) -> None:
        nodes.append((level, inputs))
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


class NormedConv2d(nn.Conv2d):
    """Convolution that owns its norm, so that names are ``weight, norm.*``."""

    def __init__(self, norm_cfg: ConfigType, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.norm = build_norm_layer(norm_cfg, self.out_channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H, W)."""
        return self.norm(super().forward(x))


def conv_bn(norm_cfg: ConfigType, *args, **kwargs) -> nn.Sequential:
    """Convolution, then norm, under the names ``conv.weight, bn.*``."""
    conv = nn.Conv2d(*args, **kwargs)
    return nn.Sequential(
        OrderedDict(conv=conv, bn=build_norm_layer(norm_cfg, conv.out_channels)[1])
    )


def _add(module: nn.Module, path: str, value: nn.Module | nn.Parameter) -> None:
    """Put a layer below a module, under a name with dots."""
    *parents, name = path.split('.')
    for parent in parents:
        if not hasattr(module, parent):
            module.add_module(parent, nn.Module())
        module = module.get_submodule(parent)
    setattr(module, name, value)


class Cell(nn.Module):
    """One repetition: every node projects, fuses, activates and convolves."""

    def __init__(
        self, channels: Sequence[int], out_channels: int, norm_cfg: ConfigType, neck: 'BiFPN'
    ) -> None:
        super().__init__()
        self.halve, self.graph = neck.halve, bifpn_graph(len(channels))
        #: Names of each node's layers; those of projections by input.
        self.names: list[tuple[dict[int, str], str, str]] = []
        widths = [*channels, *[out_channels] * len(self.graph)]
        for index, (level, inputs) in enumerate(self.graph):
            fill = dict(index=index, level=level, inputs='_'.join(map(str, inputs)))
            projected = [i for i in inputs if widths[i] != out_channels]
            laterals = {i: neck.lateral_name.format(input=i, **fill) for i in projected}
            weights, output = neck.weights_name.format(**fill), neck.output_name.format(**fill)
            for i, name in laterals.items():
                if name not in dict(self.named_modules()):  # of an earlier node
                    sizes = widths[i], out_channels, 1
                    _add(self, name, neck.conv(norm_cfg, *sizes, bias=neck.lateral_bias))
            _add(self, weights, nn.Parameter(torch.ones(len(inputs))))
            sizes = out_channels, out_channels, 3
            _add(self, output, neck.conv(norm_cfg, *sizes, padding=1, bias=False))
            self.names.append((laterals, weights, output))

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """Outputs of the same sizes as the inputs."""
        maps = list(inputs)
        for (level, sources), (laterals, weights, output) in zip(self.graph, self.names):
            size, read = inputs[level].shape[-2:], []
            for i in sources:
                x = self.get_submodule(laterals[i])(maps[i]) if i in laterals else maps[i]
                read.append(resize(x, size, self.halve))
            fused = fuse(read, self.get_parameter(weights))
            maps.append(self.get_submodule(output)(F.silu(fused)))
        return maps[-len(inputs) :]


@MODELS.register_module()
class BiFPN(BaseModule):
    """BiFPN as in EfficientDet.

    Every node projects its own inputs; down-sampling is max-pooling with a
    2x2 kernel.

    Args:
        in_channels: Of each input, finest first.
        out_channels: Of all outputs.
        num_outs: Number of levels, at least 3; those beyond the inputs are
            made from the coarsest one.
        num_cells: How often the cell is repeated.
        norm_cfg: Of all norms. Defaults to 32-group GN.
        with_cp: Trade time for memory in training: every cell is computed a
            second time in the backward pass.
        init_cfg: Initialisation; PyTorch's by default, as in the original.

    Raises:
        ValueError: If a number is too small.

    Source: "EfficientDet" (arXiv 1911.09070); docs/differences.md, 10.
    """

    # Layers and their names in the state dict. In these stand a node's `index`,
    # `level` and `inputs`, the `input` that is projected, and the neck's number
    # of inputs, `ins`.
    conv: Callable[..., nn.Module] = staticmethod(conv_bn)
    halve = staticmethod(partial(F.max_pool2d, kernel_size=2, ceil_mode=True))
    cells_name = 'cell'
    extra_name = 'resample.{ins}.conv'  # projection before the first extra level
    always_extra = False  # also where channels agree
    lateral_name = 'fnode.{index}.combine.resample.{input}.conv'
    lateral_bias = False
    weights_name = 'fnode.{index}.combine.edge_weights'
    output_name = 'fnode.{index}.after_combine.conv'

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
        self.num_ins = len(in_channels)
        if not 1 <= self.num_ins <= num_outs or num_outs < 3 or num_cells < 1:
            raise ValueError(
                'a BiFPN needs in_channels of 1 to num_outs inputs, at least 3 num_outs and at '
                f'least 1 num_cells, got {in_channels=}, {num_outs=}, {num_cells=}'
            )
        self.with_cp, self.num_extra = with_cp, num_outs - self.num_ins
        self.projection = None
        if self.num_extra and (self.always_extra or in_channels[-1] != out_channels):
            self.projection = self.extra_name.format(ins=self.num_ins)
            conv = self.conv(norm_cfg, in_channels[-1], out_channels, 1, bias=False)
            _add(self, self.projection, conv)
        cells = nn.Sequential()
        channels = [*in_channels, *[out_channels] * self.num_extra]
        for _ in range(num_cells):
            cells.append(Cell(channels, out_channels, norm_cfg, self))
            channels = [out_channels] * num_outs
        self.add_module(self.cells_name, cells)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (B, C_i, H_i, W_i), finest first, to ``num_outs`` of ``out_channels``."""
        if len(inputs) != self.num_ins:
            raise ValueError(
                f'{type(self).__name__} was built for {self.num_ins} inputs, got {len(inputs)}'
            )
        maps, x = list(inputs), inputs[-1]
        if self.projection:
            x = self.get_submodule(self.projection)(x)
        for _ in range(self.num_extra):
            x = self.halve(x)
            maps.append(x)
        for cell in self.get_submodule(self.cells_name):
            maps = recompute(cell, maps) if self.with_cp else cell(maps)
        return tuple(maps)


@MODELS.register_module()
class FCOSBiFPN(BiFPN):
    """BiFPN as in the original's other DLA models.

    Against :class:`BiFPN`: projections have a bias and are shared by the
    nodes of a level, down-sampling is max-pooling with a 3x3 kernel. The
    weights of the two do not fit each other. Args: see :class:`BiFPN`.

    Source: the tensors of the original's checkpoints; docs/differences.md, 10
    and 11.
    """

    conv = NormedConv2d
    halve = staticmethod(partial(F.max_pool2d, kernel_size=3, stride=2, padding=1))
    cells_name = 'cells'
    extra_name = 'reduction'
    always_extra = True
    lateral_name = 'lateral_{input}_f{level}'
    lateral_bias = True
    weights_name = 'weights_f{level}_{inputs}'
    output_name = 'outputs_f{level}_{inputs}'
