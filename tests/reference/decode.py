"""From the first stage's output to proposals."""

from collections.abc import Sequence
from math import exp, sqrt
from typing import NamedTuple

from .layout import Box, Level, location


class Scored(NamedTuple):
    """A box and its score."""

    score: float
    box: Box


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes; 0 if both are empty."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    inter = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union if union > 0 else 0.0


def nms(found: Sequence[Scored], threshold: float) -> list[Scored]:
    """Greedy suppression of IoU > threshold, best first."""
    kept: list[Scored] = []
    for item in sorted(found, key=lambda item: -item.score):
        if all(iou(item.box, other.box) <= threshold for other in kept):
            kept.append(item)
    return kept


def keep_best(found: Sequence[Scored], count: int) -> list[Scored]:
    """All with at least the ``count``-th largest score: ties keep more."""
    if len(found) <= count:
        return list(found)
    limit = sorted((item.score for item in found), reverse=True)[count - 1]
    return [item for item in found if item.score >= limit]


def cell_box(level: Level, x: int, y: int, ltrb: Sequence[float]) -> Box:
    """Box of a cell, in pixels: not clipped, at least 0.01 wide."""
    px, py = location(level, x, y)
    left, top, right, bottom = [v * level.stride for v in ltrb]
    x1, y1 = px - left, py - top
    return x1, y1, max(px + right, x1 + 0.01), max(py + bottom, y1 + 0.01)


def level_candidates(
    level: Level,
    logits: Sequence[float],
    predicted: Sequence[Sequence[float]],
    threshold: float,
    topk: int,
) -> list[Scored]:
    """Best cells of one level whose raw heat is above the threshold.

    Args:
        level: Where the cells are.
        logits: Of every cell, row by row.
        predicted: ltrb of every cell in stride units, row by row.
        threshold: On the heat, before the square root.
        topk: Cells to keep at most.
    """
    heats = [1 / (1 + exp(-logit)) for logit in logits]
    cells = [i for i, value in enumerate(heats) if value > threshold]
    cells = sorted(cells, key=lambda i: -heats[i])[:topk]
    return [
        Scored(sqrt(heats[i]), cell_box(level, i % level.width, i // level.width, predicted[i]))
        for i in cells
    ]


def proposals(
    levels: Sequence[Level],
    logits: Sequence[Sequence[float]],
    predicted: Sequence[Sequence[Sequence[float]]],
    pre_topk: int,
    post_topk: int,
    threshold: float = 1e-4,
    nms_threshold: float = 0.9,
) -> list[Scored]:
    """Proposals of one image, best first; one NMS over all levels."""
    found: list[Scored] = []
    for i, level in enumerate(levels):
        found += level_candidates(level, logits[i], predicted[i], threshold, pre_topk)
    return keep_best(nms(found, nms_threshold), post_topk)
