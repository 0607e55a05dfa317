"""Greedy NMS whose every tensor has a constant shape, for TensorRT.

TensorRT maps ONNX ``NonMaxSuppression`` to a layer that is of little use in
front of a second stage: how many rows its output has depends on the data,
which the layers behind it refuse ("incompatible with data-dependent shapes"),
and it looks at no more than the 5,000 best (box, class) pairs of an image.
Here the same result comes out of comparisons and matrix products alone.

Box ``i`` survives exactly if no surviving box of a higher score overlaps it.
Written for all boxes at once, ``keep = not (keep @ suppress)``, this has one
solution. Iterating reaches it: the first step decides the boxes that nothing
can suppress, each later step those that depend on boxes decided before.
"""
from typing import Optional

import torch
from torch import Tensor

#: Twice the longest chain of decisions that crowds of random boxes have
#: shown (the tests count it). A step costs one matrix-vector product.
STEPS = 20


def pairwise_iou(boxes: Tensor) -> Tensor:
    """Intersection over union of all pairs of boxes.

    Args:
        boxes (Tensor): xyxy in pixels, shape (..., N, 4).

    Returns:
        Tensor: Shape (..., N, N); zero where both boxes are empty.
    """
    one, other = boxes.unsqueeze(-2), boxes.unsqueeze(-3)
    top_left = torch.max(one[..., :2], other[..., :2])
    bottom_right = torch.min(one[..., 2:], other[..., 2:])
    sides = (bottom_right - top_left).clamp(min=0)
    inter = sides[..., 0] * sides[..., 1]
    sides = boxes[..., 2:] - boxes[..., :2]
    areas = sides[..., 0] * sides[..., 1]
    union = areas.unsqueeze(-1) + areas.unsqueeze(-2) - inter
    return inter / union.clamp(min=1e-9)


def suppression(boxes: Tensor,
                scores: Tensor,
                iou_threshold: float,
                labels: Optional[Tensor] = None) -> Tensor:
    """Which box would suppress which, if it survives itself.

    Of equal scores, the box of the lower index comes first.

    Args:
        boxes, scores, iou_threshold, labels: See :func:`dense_nms`.

    Returns:
        Tensor: Shape (B, C, N, N), bool; [..., j, i] is j against i.
    """
    if boxes.dim() == 3:
        boxes = boxes.unsqueeze(1)
    overlap = pairwise_iou(boxes) > iou_threshold
    if labels is not None:
        labels = labels.unsqueeze(1)
        overlap = overlap & (labels.unsqueeze(-1) == labels.unsqueeze(-2))
    index = torch.arange(scores.size(-1), device=scores.device)
    earlier = index.unsqueeze(-1) < index
    one, other = scores.unsqueeze(-1), scores.unsqueeze(-2)
    return overlap & ((one > other) | ((one == other) & earlier))


def dense_nms(boxes: Tensor,
              scores: Tensor,
              iou_threshold: float,
              score_threshold: float = 0.0,
              labels: Optional[Tensor] = None,
              steps: int = STEPS) -> Tensor:
    """The boxes that greedy NMS keeps, class by class, as a mask.

    Needs ``C * N * N`` values for each image: 5 million for 256 proposals and
    80 classes, 25 million for 5,000 candidates of one class.

    Args:
        boxes (Tensor): xyxy in pixels, float32 (the areas overflow float16),
            shape (B, N, 4), or (B, C, N, 4) if every class has its own.
        scores (Tensor): Shape (B, C, N).
        iou_threshold (float): Boxes that overlap more suppress one another.
        score_threshold (float): Boxes up to this score are not there at all.
        labels (Tensor, optional): Only boxes of one label compete; for C = 1,
            shape (B, N).
        steps (int): Chains of decisions may be this long. Where one is longer,
            boxes at its far end may be kept or dropped wrongly.

    Returns:
        Tensor: bool, shape (B, C, N).
    """
    valid = scores > score_threshold
    suppress = suppression(boxes, scores, iou_threshold, labels)
    suppress = (suppress & valid.unsqueeze(-1)).to(scores.dtype)
    keep = valid.unsqueeze(-2)
    for _ in range(steps):
        keep = torch.matmul(keep.to(scores.dtype), suppress) < 0.5
    return keep.squeeze(-2) & valid
