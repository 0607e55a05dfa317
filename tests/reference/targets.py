"""Training targets of the first stage, cell by cell."""

from collections.abc import Sequence
from math import exp
from typing import NamedTuple

from .layout import (
    Box,
    Level,
    area,
    assigned,
    assigned_levels,
    centre,
    centre_cell,
    flat_index,
    location,
)
from .losses import giou_loss

DELTA = (1 - 0.8) / (1 + 0.8)
MIN_RADIUS = 4.0
Ltrb = tuple[float, float, float, float]


class Positive(NamedTuple):
    """A positive location: where in the flat batch, and of which class."""

    index: int
    label: int


def distance_and_radius(box: Box, level: Level, x: int, y: int) -> tuple[float, float]:
    """Squared distance of a cell to the true centre, and squared radius.

    Both in square pixels. The cell that holds the centre has distance 0. The
    radius is in pixels on every level.
    """
    radius2 = max(2 * DELTA**2 * area(box), MIN_RADIUS**2)
    if (x, y) == centre_cell(box, level.stride):
        return 0.0, radius2
    px, py = location(level, x, y)
    cx, cy = centre(box)
    return (px - cx) ** 2 + (py - cy) ** 2, radius2


def weighted_distance(box: Box, level: Level, x: int, y: int) -> float:
    """Squared distance of a cell in units of the squared radius."""
    distance2, radius2 = distance_and_radius(box, level, x, y)
    return distance2 / radius2


def heat(boxes: Sequence[Box], level: Level, x: int, y: int) -> float:
    """Heat-map value of a cell: the nearest object's, of any size."""
    if not boxes:
        return 0.0
    value = exp(-min(weighted_distance(box, level, x, y) for box in boxes))
    return value if value >= 1e-4 else 0.0


def class_heat(
    boxes: Sequence[Box], labels: Sequence[int], level: Level, x: int, y: int, num_classes: int
) -> list[float]:
    """Heat-map values of a cell, one per class."""
    return [
        heat([b for b, label in zip(boxes, labels) if label == c], level, x, y)
        for c in range(num_classes)
    ]


def ltrb_at(box: Box, level: Level, x: int, y: int) -> Ltrb:
    """Distances from a cell to the four edges, in stride units."""
    px, py = location(level, x, y)
    s = level.stride
    return ((px - box[0]) / s, (py - box[1]) / s, (box[2] - px) / s, (box[3] - py) / s)


def may_regress(box: Box, level: Level, x: int, y: int) -> bool:
    """Whether a cell is one of those that may learn the object's box.

    Strictly inside, within a cell of the centre's cell, and on a level
    of the object's size.
    """
    if min(ltrb_at(box, level, x, y)) <= 0:
        return False
    cx, cy = centre_cell(box, level.stride)
    near = abs(x - cx) <= 1 and abs(y - cy) <= 1
    return near and assigned(box, level)


def regression_owner(boxes: Sequence[Box], level: Level, x: int, y: int) -> int | None:
    """Object a cell regresses to: the nearest, the first one among equals."""
    best, owner = float('inf'), None
    for j, box in enumerate(boxes):
        if may_regress(box, level, x, y):
            distance = weighted_distance(box, level, x, y)
            if distance < best:
                best, owner = distance, j
    return owner


def base_positives(
    images: Sequence[Sequence[Box]], labels: Sequence[Sequence[int]], levels: Sequence[Level]
) -> list[Positive]:
    """The centre cell of each object on each of its levels, wherever it is.

    In the order image, object, level; objects in one cell are repeated.
    """
    found = []
    for image, boxes in enumerate(images):
        for box, label in zip(boxes, labels[image]):
            for i in assigned_levels(box, levels):
                x, y = centre_cell(box, levels[i].stride)
                index = flat_index(levels, len(images), i, image, x, y)
                found.append(Positive(index, label))
    return found


def centre_counts(box: Box, level: Level) -> bool:
    """Whether the centre cell is a positive whatever is predicted."""
    x, y = centre_cell(box, level.stride)
    return assigned(box, level) and min(ltrb_at(box, level, x, y)) >= 0


def _candidates(
    box: Box, label: int, levels: Sequence[Level], batch: int, image: int, predicted: Sequence[Ltrb]
):
    """Cost and place of the nine cells of each level around the centre."""
    for i, level in enumerate(levels):
        cx, cy = centre_cell(box, level.stride)
        left, top, right, bottom = ltrb_at(box, level, cx, cy)
        for k in range(9):
            dx, dy = k % 3 - 1, k // 3 - 1
            x, y = cx + dx, cy + dy
            target = (left + dx, top + dy, right - dx, bottom - dy)
            inside = 0 <= x < level.width and 0 <= y < level.height
            index = flat_index(levels, batch, i, image, x, y)
            if k == 4 and centre_counts(box, level):
                cost = 0.0
            elif inside and min(target) >= 0:
                cost = float(giou_loss(predicted[index], target))
            else:
                cost = 1e8
            yield cost, Positive(index, label)


def more_positives(
    images: Sequence[Sequence[Box]],
    labels: Sequence[Sequence[int]],
    levels: Sequence[Level],
    predicted: Sequence[Ltrb],
) -> list[Positive]:
    """Positives mined by the quality of the predicted boxes.

    Args:
        images: Boxes of each image.
        labels: Classes of each image.
        levels: Of the first stage.
        predicted: ltrb in stride units of every cell, in the flat order.

    Returns:
        In the order image, object, level, cell; neighbours also of levels
        the object is not assigned to.
    """
    found = []
    for image, boxes in enumerate(images):
        for box, label in zip(boxes, labels[image]):
            candidates = list(_candidates(box, label, levels, len(images), image, predicted))
            ninth = sorted(cost for cost, _ in candidates)[8]
            found += [place for cost, place in candidates if cost < min(0.2, ninth)]
    return found
