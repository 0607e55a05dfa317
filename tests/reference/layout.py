"""Levels, their grids and the flat order of locations."""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

Box = tuple[float, float, float, float]


class Level(NamedTuple):
    """A feature map and the objects it is responsible for.

    ``low`` and ``high`` bound the half diagonal of its objects in pixels.
    """

    stride: int
    height: int
    width: int
    low: float
    high: float

    @property
    def cells(self) -> int:
        """Number of locations."""
        return self.height * self.width


def location(level: Level, x: int, y: int) -> tuple[float, float]:
    """Image position of cell (x, y), in pixels."""
    half = level.stride // 2
    return float(x * level.stride + half), float(y * level.stride + half)


def flat_index(levels: Sequence[Level], batch: int, index: int, image: int, x: int, y: int) -> int:
    """Position of a cell in the batch: level, then image, then row, column.

    A cell outside its map is counted on as if the map had it: the
    original has no check.
    """
    before = batch * sum(level.cells for level in levels[:index])
    level = levels[index]
    return before + image * level.cells + y * level.width + x


def centre(box: Box) -> tuple[float, float]:
    """Centre of a box, in pixels."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def area(box: Box) -> float:
    """Area of a box, in square pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def centre_cell(box: Box, stride: int) -> tuple[int, int]:
    """Column and row of the cell that holds the centre (``int`` truncates)."""
    cx, cy = centre(box)
    return int(cx / stride), int(cy / stride)


def half_diagonal(box: Box) -> float:
    """Size by which an object is given to levels, in pixels."""
    return sqrt((box[2] - box[0]) ** 2 + (box[3] - box[1]) ** 2) / 2


def assigned(box: Box, level: Level) -> bool:
    """Whether the object belongs to the level; both ends count."""
    return level.low <= half_diagonal(box) <= level.high


def assigned_levels(box: Box, levels: Sequence[Level]) -> list[int]:
    """All levels the object belongs to: none, one or several."""
    return [i for i, level in enumerate(levels) if assigned(box, level)]
