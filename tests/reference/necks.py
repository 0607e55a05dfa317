"""Slow float64 forms of both BiFPNs and of the up-sampling of stride-4 DLA.

Functions of a state dict, with the package's tensor names, and of the maps,
finest first. Where the original fails, on sizes that do not halve evenly, a
map is pooled to half its size rounded up, then brought to the exact size of
the node's level by nearest neighbour.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference.backbones import State, batch_norm, below, deform_conv, max_pool_windows

#: (level, entries of the list of maps that are joined); the list starts with
#: the cell's inputs and each node appends its result.
Table = list[tuple[int, tuple[int, ...]]]

THREE_LEVELS: Table = [(1, (1, 2)), (0, (0, 3)), (1, (1, 3, 4)), (2, (2, 5))]
FIVE_LEVELS: Table = [
    (3, (3, 4)),
    (2, (2, 5)),
    (1, (1, 6)),
    (0, (0, 7)),
    (1, (1, 7, 8)),
    (2, (2, 6, 9)),
    (3, (3, 5, 10)),
    (4, (4, 11)),
]


def node_table(levels: int) -> Table:
    """The tables above for any number of levels, by position.

    A node on the way down to ``level`` is entry ``2 * levels - 2 - level``,
    one on the way up entry ``2 * levels - 2 + level``; level 0 is both.
    """
    middle, top = 2 * levels - 2, levels - 1

    def down(level: int) -> int:
        return level if level == top else middle - level

    table: Table = []
    for level in reversed(range(top)):
        table.append((level, (level, down(level + 1))))
    for level in range(1, top):
        table.append((level, (level, down(level), middle + level - 1)))
    table.append((top, (top, middle + top - 1)))
    return table


def table_of(levels: int) -> Table:
    """The table above where there is one."""
    listed = {3: THREE_LEVELS, 5: FIVE_LEVELS}
    return listed.get(levels) or node_table(levels)


def group_norm(state: State, x: Tensor, groups: int) -> Tensor:
    """Normalise each image's groups of channels, one after the other."""
    out = torch.empty_like(x)
    size = x.size(1) // groups
    for image in range(x.size(0)):
        for group in range(groups):
            chunk = x[image, group * size : (group + 1) * size]
            centred = chunk - chunk.mean()
            scaled = centred / ((centred**2).mean() + 1e-5).sqrt()
            out[image, group * size : (group + 1) * size] = scaled
    return out * state['weight'][None, :, None, None] + state['bias'][None, :, None, None]


def nearest(x: Tensor, height: int, width: int) -> Tensor:
    """Each cell takes the value of the cell that it lies in."""
    rows = [i * x.size(2) // height for i in range(height)]
    columns = [j * x.size(3) // width for j in range(width)]
    return x[:, :, rows][:, :, :, columns]


def to_level(x: Tensor, like: Tensor, flavour: str) -> Tensor:
    """Bring a map to the size of another level's."""
    height, width = like.shape[2:]
    if x.size(2) > height or x.size(3) > width:
        x = halve(x, flavour)
    return nearest(x, height, width)


def halve(x: Tensor, flavour: str) -> Tensor:
    """Pool windows of 2x2 ('effdet') or of 3x3 cells ('fcos')."""
    before = {'effdet': 0, 'fcos': 1}[flavour]
    return max_pool_windows(x, before, 2)


def weighted(maps: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Fast attention, then swish."""
    positive = [max(float(w), 0.0) for w in weights]
    out = sum(w * x for w, x in zip(positive, maps))
    out = out / (sum(positive) + 1e-4)
    return out / (1 + (-out).exp())


def last_of_each_level(maps: Sequence[Tensor], table: Table, levels: int) -> list[Tensor]:
    """For every level, the result of the last node on it."""
    latest: dict[int, Tensor] = {}
    for (level, _), result in zip(table, maps[levels:]):
        latest[level] = result
    return [latest[level] for level in range(levels)]


# ---------------------------------------------------------------------------
# EfficientDet's flavour
# ---------------------------------------------------------------------------


def effdet_bifpn(
    state: State, inputs: Sequence[Tensor], levels: int, cells: int, groups: int
) -> list[Tensor]:
    """All outputs of a ``BiFPN``."""

    def conv_norm(name: str, x: Tensor) -> Tensor:
        weight = state[f'{name}.conv.weight']
        x = F.conv2d(x, weight, padding=weight.size(-1) // 2)
        return group_norm(below(state, f'{name}.bn'), x, groups)

    def project(name: str, x: Tensor) -> Tensor:
        here = f'{name}.conv.conv.weight' in state
        return conv_norm(f'{name}.conv', x) if here else x

    maps = list(inputs)
    while len(maps) < levels:
        # resample.{number of inputs} is the only one with tensors
        maps.append(halve(project(f'resample.{len(maps)}', maps[-1]), 'effdet'))
    for cell in range(cells):
        sizes, table = list(maps), table_of(levels)
        for number, (level, entries) in enumerate(table):
            node = f'cell.{cell}.fnode.{number}'
            read = [
                to_level(
                    project(f'{node}.combine.resample.{entry}', maps[entry]), sizes[level], 'effdet'
                )
                for entry in entries
            ]
            x = weighted(read, state[f'{node}.combine.edge_weights'])
            maps.append(conv_norm(f'{node}.after_combine.conv', x))
        maps = last_of_each_level(maps, table, levels)
    return maps


# ---------------------------------------------------------------------------
# FCOS's flavour
# ---------------------------------------------------------------------------


def fcos_bifpn(
    state: State, inputs: Sequence[Tensor], levels: int, cells: int, groups: int
) -> list[Tensor]:
    """All outputs of an ``FCOSBiFPN``."""

    def conv_norm(name: str, x: Tensor) -> Tensor:
        weight = state[f'{name}.weight']
        x = F.conv2d(x, weight, state.get(f'{name}.bias'), padding=weight.size(-1) // 2)
        return group_norm(below(state, f'{name}.norm'), x, groups)

    maps = list(inputs)
    while len(maps) < levels:
        x = maps[-1]
        if len(maps) == len(inputs):
            x = conv_norm('reduction', x)
        maps.append(halve(x, 'fcos'))
    for cell in range(cells):
        sizes, table = list(maps), table_of(levels)
        for level, entries in table:
            name = '_'.join([f'f{level}'] + [str(entry) for entry in entries])
            read = []
            for entry in entries:
                x, lateral = maps[entry], f'lateral_{entry}_f{level}'
                if f'cells.{cell}.{lateral}.weight' in state:
                    x = conv_norm(f'cells.{cell}.{lateral}', x)
                read.append(to_level(x, sizes[level], 'fcos'))
            x = weighted(read, state[f'cells.{cell}.weights_{name}'])
            maps.append(conv_norm(f'cells.{cell}.outputs_{name}', x))
        maps = last_of_each_level(maps, table, levels)
    return maps


# ---------------------------------------------------------------------------
# Up-sampling of the stride-4 DLA
# ---------------------------------------------------------------------------


def deform_node(state: State, x: Tensor) -> Tensor:
    """Deformable convolution, norm, ReLU."""
    x = deform_conv(below(state, 'conv'), x)
    return batch_norm(below(state, 'actf.0'), x).relu()


def transposed_conv(x: Tensor, weight: Tensor, factor: int) -> Tensor:
    """Every cell paints its kernel, ``factor`` cells from the next one's.

    Args:
        x (Tensor): (B, C, H, W).
        weight (Tensor): (C, 1, 2 * factor, 2 * factor).
        factor (int): Stride of the painting.

    Returns:
        Tensor: (B, C, factor * H, factor * W).
    """
    size, pad = 2 * factor, factor // 2
    height, width = factor * x.size(2), factor * x.size(3)
    canvas = x.new_zeros(x.size(0), x.size(1), height + 2 * pad, width + 2 * pad)
    for i in range(x.size(2)):
        for j in range(x.size(3)):
            canvas[:, :, i * factor : i * factor + size, j * factor : j * factor + size] += (
                x[:, :, i, j, None, None] * weight[:, 0]
            )
    return canvas[:, :, pad : pad + height, pad : pad + width]


def ida_up(state: State, maps: list[Tensor], start: int, end: int) -> None:
    """Join ``maps[start:end]`` one by one; rewrites them."""
    for i in range(start + 1, end):
        k = i - start
        x = deform_node(below(state, f'proj_{k}'), maps[i])
        weight = state[f'up_{k}.weight']
        x = transposed_conv(x, weight, weight.size(-1) // 2)
        maps[i] = deform_node(below(state, f'node_{k}'), x + maps[i - 1])


def dla_up_neck(state: State, inputs: Sequence[Tensor]) -> Tensor:
    """Both aggregations over DLA's levels 2 to 5: one map of stride 4."""
    maps = list(inputs)
    out = [maps[3]]
    ida_up(below(state, 'dla_up.ida_0'), maps, 2, 4)
    out.insert(0, maps[3])
    ida_up(below(state, 'dla_up.ida_1'), maps, 1, 4)
    out.insert(0, maps[3])
    ida_up(below(state, 'dla_up.ida_2'), maps, 0, 4)
    out.insert(0, maps[3])
    final = out[0:3]
    ida_up(below(state, 'ida_up'), final, 0, 3)
    return final[2]
