"""Slow float64 forms of the operations, of DLA's trees and of Res2Net.

Everything is a function of a state dict, with the package's tensor names, and
of its input. Norms are in evaluation mode.
"""

from collections.abc import Mapping, Sequence
from math import ceil, exp, floor

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]


def below(state: State, prefix: str) -> dict[str, Tensor]:
    """Tensors whose names start with ``prefix`` and a dot, without both."""
    start = prefix + '.'
    return {name[len(start) :]: value for name, value in state.items() if name.startswith(start)}


def batch_norm(state: State, x: Tensor) -> Tensor:
    """Normalise by the stored statistics."""

    def column(name: str) -> Tensor:
        return state[name][None, :, None, None]

    x = (x - column('running_mean')) / (column('running_var') + 1e-5).sqrt()
    return x * column('weight') + column('bias')


def max_pool_windows(x: Tensor, before: int, after: int) -> Tensor:
    """Largest value around every second cell, from 0.

    Args:
        x (Tensor): (B, C, H, W).
        before (int): Cells of a window before its cell.
        after (int): Cells of a window from its cell on.

    Returns:
        Tensor: (B, C, ceil(H / 2), ceil(W / 2)).
    """
    rows = []
    for top in range(0, x.size(2), 2):
        row = []
        for left in range(0, x.size(3), 2):
            window = x[
                :, :, max(top - before, 0) : top + after, max(left - before, 0) : left + after
            ]
            row.append(window.amax((2, 3)))
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


def average_pool(x: Tensor, stride: int) -> Tensor:
    """Mean of windows side by side; those cut by the border are smaller."""
    height, width = ceil(x.size(2) / stride), ceil(x.size(3) / stride)
    out = x.new_zeros(x.size(0), x.size(1), height, width)
    for i in range(height):
        for j in range(width):
            window = x[:, :, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
            out[:, :, i, j] = window.mean((2, 3))
    return out


# ---------------------------------------------------------------------------
# Deformable convolution
# ---------------------------------------------------------------------------


def bilinear_sample(image: Tensor, y: float, x: float) -> Tensor:
    """Value at a point between cells; zero beyond the map.

    Args:
        image (Tensor): (C, H, W).
        y (float): Row.
        x (float): Column.

    Returns:
        Tensor: (C, ).
    """
    total = image.new_zeros(image.size(0))
    top, left = floor(y), floor(x)
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < image.size(1) and 0 <= column < image.size(2):
                share = (1 - abs(y - row)) * (1 - abs(x - column))
                total = total + share * image[:, row, column]
    return total


def deform_conv(state: State, x: Tensor) -> Tensor:
    """3x3 convolution at shifted places, each with its own factor.

    The offset convolution's 27 channels are 9 pairs of (row, column) offsets,
    then 9 factors before the sigmoid.

    Args:
        state (dict): ``weight``, perhaps ``bias``, and ``conv_offset.*``.
        x (Tensor): (B, C_in, H, W).

    Returns:
        Tensor: (B, C_out, H, W).
    """
    weight = state['weight']
    guide = F.conv2d(x, state['conv_offset.weight'], state['conv_offset.bias'], padding=1)
    out = x.new_zeros(x.size(0), weight.size(0), x.size(2), x.size(3))
    for image in range(x.size(0)):
        for i in range(x.size(2)):
            for j in range(x.size(3)):
                here = guide[image, :, i, j].tolist()
                for tap in range(9):
                    y = i + tap // 3 - 1 + here[2 * tap]
                    xx = j + tap % 3 - 1 + here[2 * tap + 1]
                    factor = 1 / (1 + exp(-here[18 + tap]))
                    value = bilinear_sample(x[image], y, xx) * factor
                    out[image, :, i, j] += weight[:, :, tap // 3, tap % 3] @ value
    if 'bias' in state:
        out = out + state['bias'][None, :, None, None]
    return out


# ---------------------------------------------------------------------------
# Deep layer aggregation
# ---------------------------------------------------------------------------


def dla_block(state: State, x: Tensor, residual: Tensor, stride: int) -> Tensor:
    """A basic block or, where there is a third convolution, a bottleneck."""

    def step(number: int, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f'conv{number}.weight']
        x = F.conv2d(x, weight, stride=stride, padding=weight.size(-1) // 2)
        return batch_norm(below(state, f'bn{number}'), x)

    if 'conv3.weight' in state:
        x = step(1, x).relu()
        x = step(2, x, stride).relu()
        return (step(3, x) + residual).relu()
    x = step(1, x, stride).relu()
    return (step(2, x) + residual).relu()


def dla_tree(
    state: State,
    x: Tensor,
    depth: int,
    stride: int,
    level_root: bool,
    children: Sequence[Tensor] = (),
) -> Tensor:
    """A tree: blocks, then a mix of theirs and the ancestors' results.

    Args:
        state (dict): Of the tree.
        x (Tensor): (B, C_in, H, W).
        depth (int): 1: two blocks and a root; else two trees.
        stride (int): 1 or 2.
        level_root (bool): Whether the pooled input is mixed in, too.
        children (Sequence[Tensor]): Results of ancestors.

    Returns:
        Tensor: (B, C, ceil(H / stride), ceil(W / stride)).
    """
    bottom = max_pool_windows(x, 0, 2) if stride == 2 else x
    mixed = ([bottom] if level_root else []) + list(children)
    if depth > 1:
        x1 = dla_tree(below(state, 'tree1'), x, depth - 1, stride, False)
        return dla_tree(below(state, 'tree2'), x1, depth - 1, 1, False, mixed + [x1])
    residual = bottom
    if 'project.0.weight' in state:
        residual = batch_norm(
            below(state, 'project.1'), F.conv2d(bottom, state['project.0.weight'])
        )
    x1 = dla_block(below(state, 'tree1'), x, residual, stride)
    x2 = dla_block(below(state, 'tree2'), x1, x1, 1)
    together = torch.cat([x2, x1] + mixed, 1)
    together = F.conv2d(together, state['root.conv.weight'])
    return batch_norm(below(state, 'root.bn'), together).relu()


def dla(state: State, image: Tensor, depths: Sequence[int]) -> list[Tensor]:
    """Levels 0 to 5; ``depths`` are those of the trees of levels 2 to 5."""

    def plain(name: str, x: Tensor, stride: int) -> Tensor:
        weight = state[f'{name}.0.weight']
        x = F.conv2d(x, weight, stride=stride, padding=weight.size(-1) // 2)
        return batch_norm(below(state, f'{name}.1'), x).relu()

    x = plain('base_layer', image, 1)
    outs = [plain('level0', x, 1)]
    outs.append(plain('level1', outs[-1], 2))
    for level, depth in zip((2, 3, 4, 5), depths):
        outs.append(dla_tree(below(state, f'level{level}'), outs[-1], depth, 2, level > 2))
    return outs


# ---------------------------------------------------------------------------
# Res2Net
# ---------------------------------------------------------------------------


def res2net_block(state: State, x: Tensor, stride: int, first: bool) -> Tensor:
    """A block of four splits, the stride on the first 1x1 convolution.

    Args:
        state (dict): Of the block.
        x (Tensor): (B, C_in, H, W).
        stride (int): Of the block.
        first (bool): Whether it is the first of its stage: the splits then
            do not get the previous split's result.

    Returns:
        Tensor: (B, C, ceil(H / stride), ceil(W / stride)).
    """
    out = F.conv2d(x, state['conv1.weight'], stride=stride)
    out = batch_norm(below(state, 'bn1'), out).relu()
    splits = out.chunk(4, 1)
    done: list[Tensor] = []
    for i in range(3):
        sp = splits[i] if first or i == 0 else done[-1] + splits[i]
        conv = below(state, f'convs.{i}')
        sp = (
            deform_conv(conv, sp)
            if 'conv_offset.weight' in conv
            else F.conv2d(sp, conv['weight'], padding=1)
        )
        done.append(batch_norm(below(state, f'bns.{i}'), sp).relu())
    out = F.conv2d(torch.cat(done + [splits[3]], 1), state['conv3.weight'])
    out = batch_norm(below(state, 'bn3'), out)
    shortcut = x
    if first:
        shortcut = F.conv2d(average_pool(x, stride), state['downsample.1.weight'])
        shortcut = batch_norm(below(state, 'downsample.2'), shortcut)
    return (out + shortcut).relu()


def res2net(state: State, image: Tensor, blocks: Sequence[int]) -> list[Tensor]:
    """Results of the four stages, which have ``blocks`` blocks."""
    x = image
    for conv, norm, stride in (('0', '1', 2), ('3', '4', 1), ('6', '7', 1)):
        x = F.conv2d(x, state[f'stem.{conv}.weight'], stride=stride, padding=1)
        x = batch_norm(below(state, f'stem.{norm}'), x).relu()
    x = max_pool_windows(x, 1, 2)
    outs = []
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            first = block == 0
            x = res2net_block(
                below(state, f'layer{stage}.{block}'), x, 2 if first and stage > 1 else 1, first
            )
        outs.append(x)
    return outs
