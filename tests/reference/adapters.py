"""Between the package's tensors and the reference's plain numbers."""

from collections.abc import Sequence

import torch
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from .layout import Box, Level


def to_boxes(boxes: Tensor) -> list[Box]:
    """Rows of a tensor of shape (n, 4) as boxes."""
    return [tuple(row) for row in boxes.detach().double().tolist()]


def to_instances(images: Sequence[Sequence[Box]], labels: Sequence[Sequence[int]]) -> InstanceList:
    """Ground truth of a batch as the package takes it."""
    return [
        InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
            labels=torch.tensor(numbers, dtype=torch.long),
        )
        for boxes, numbers in zip(images, labels)
    ]


def ranges(levels: Sequence[Level]) -> list[tuple[float, float]]:
    """Half-diagonal range of each level."""
    return [(level.low, level.high) for level in levels]


def map_sizes(levels: Sequence[Level]) -> list[tuple[int, int]]:
    """Height and width of each level's map."""
    return [(level.height, level.width) for level in levels]


def strides(levels: Sequence[Level]) -> list[int]:
    """Stride of each level."""
    return [level.stride for level in levels]
