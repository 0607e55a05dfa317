"""Greedy non-maximum suppression on a CPU, in blocks instead of box by box."""
from typing import List

import torch
from torch import Tensor

#: Candidates that are compared at once.
BLOCK = 256


def overlaps(boxes: Tensor, others: Tensor, threshold: float) -> Tensor:
    """Whether the IoU of each pair is above a threshold.

    Args:
        boxes (Tensor): xyxy, shape (n, 4).
        others (Tensor): xyxy, shape (m, 4).
        threshold (float): Of the IoU.

    Returns:
        Tensor: Boolean, shape (n, m). Pairs of empty boxes do not overlap.
    """
    low = torch.max(boxes[:, None, :2], others[:, :2])
    high = torch.min(boxes[:, None, 2:], others[:, 2:])
    inter = (high - low).clamp_(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    other_areas = (others[:, 2:] - others[:, :2]).prod(-1)
    # mmcv's order of operations: the same boxes survive, to the last bit
    return inter / (areas[:, None] + other_areas - inter) > threshold


def greedy_nms(boxes: Tensor, scores: Tensor, groups: Tensor,
               threshold: float, enough: int) -> Tensor:
    """Survivors of sorted boxes, at least the ``enough`` best and their ties.

    A box falls if one that survived before it, of the same group, overlaps
    it. Boxes come in blocks: each is compared with the survivors so far, and
    then within itself until nothing changes, which gives what going box by
    box gives. Once there are enough, the rest is not looked at.

    Args:
        boxes (Tensor): xyxy in pixels, highest score first, shape (n, 4).
        scores (Tensor): Descending, shape (n, ).
        groups (Tensor): Boxes of different groups do not meet, shape (n, ).
        threshold (float): IoU above which boxes overlap.
        enough (int): Zero or less looks at all.

    Returns:
        Tensor: Indices of survivors, ascending, shape (m, ), int64.
    """
    kept: List[Tensor] = []
    survivors = boxes.new_zeros(0, dtype=torch.long)
    for start in range(0, len(boxes), BLOCK):
        if 0 < enough <= len(survivors) and (
                scores[survivors[enough - 1]] > scores[start]):
            break
        block = torch.arange(start, min(start + BLOCK, len(boxes)))
        fallen = overlaps(boxes[block], boxes[survivors], threshold)
        free = ~(fallen & (groups[block, None] == groups[survivors])).any(1)
        block = block[free]
        over = overlaps(boxes[block], boxes[block], threshold)
        over &= groups[block, None] == groups[block]
        kept.append(block[_survive(over.triu_(1))])
        survivors = torch.cat(kept)
    return survivors


def _survive(over: Tensor) -> Tensor:
    """Which boxes survive among themselves.

    Args:
        over (Tensor): Whether the box of the row, which comes first, would
            suppress that of the column, shape (n, n).

    Returns:
        Tensor: Boolean, shape (n, ).
    """
    keep = torch.ones(len(over), dtype=torch.bool)
    while True:  # each round settles at least one more box
        settled = ~(over & keep[:, None]).any(0)
        if torch.equal(settled, keep):
            return keep
        keep = settled
