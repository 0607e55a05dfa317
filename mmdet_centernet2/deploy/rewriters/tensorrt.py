"""Other forms for TensorRT: no plugin, no shape that depends on values."""

from collections.abc import Sequence

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdeploy.utils import Backend
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor, nn

from .roi_heads import RoIAlign

TENSORRT = Backend.TENSORRT.value
#: Twice the longest chain of decisions that crowds of random boxes have
#: shown (the tests count it). A step costs one matrix-vector product.
STEPS = 20


def suppression(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """[..., j, i]: whether box j, if kept, suppresses i; (B, C, N, N)."""
    overlap = (bbox_overlaps(boxes, boxes) > iou_threshold).unsqueeze(1)
    index = torch.arange(scores.size(-1), device=scores.device)
    earlier = index.unsqueeze(-1) < index
    one, other = scores.unsqueeze(-1), scores.unsqueeze(-2)
    return overlap & ((one > other) | ((one == other) & earlier))


def dense_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    score_threshold: float = 0.0,
    steps: int = STEPS,
) -> Tensor:
    """Greedy NMS class by class, all of constant shape, for TensorRT.

    TensorRT's NMS layer has an output whose shape depends on the data, which
    the layers of a second stage refuse, and looks at the 5,000 best (box,
    class) pairs only. Here, box ``i`` survives exactly if no surviving box of
    a higher score overlaps it: ``keep = not (keep @ suppress)`` for all boxes
    at once, solved by iteration. Needs ``C * N * N`` values for each image.

    Args:
        boxes: Float32 (the areas overflow float16), shape (B, N, 4).
        scores: Shape (B, C, N).
        iou_threshold: Boxes that overlap more suppress one another.
        score_threshold: Boxes up to this score do not take part.
        steps: Where a chain of decisions is longer, its far end may be wrong.

    Returns:
        Whether each is kept, shape (B, C, N).
    """
    valid = scores > score_threshold
    suppress = suppression(boxes, scores, iou_threshold)
    suppress = (suppress & valid.unsqueeze(-1)).to(scores.dtype)
    keep = valid.unsqueeze(-2)
    for _ in range(steps):
        keep = torch.matmul(keep.to(scores.dtype), suppress) < 0.5
    return keep.squeeze(-2) & valid


@FUNCTION_REWRITER.register_rewriter(
    'mmdet_centernet2.deploy.postprocess.suppress', backend=TENSORRT
)
def suppress__dense(
    boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float, max_num: int
) -> Tensor:
    """NMS by comparisons and products of matrices; any number per class."""
    keep = dense_nms(boxes, scores, iou_threshold, score_threshold)
    return torch.where(keep, scores, -1.0)


@FUNCTION_REWRITER.register_rewriter(
    'mmdet_centernet2.deploy.rewriters.roi_heads.pool_levels', backend=TENSORRT
)
def pool_levels__all(
    layers: Sequence[nn.Module],
    feats: Sequence[Tensor],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
) -> Tensor:
    """Pool every box from every level and choose.

    On other levels than its own a box shrinks to a point, so that little is
    read there.
    """
    result: Tensor | None = None
    for level, (layer, feat) in enumerate(zip(layers, feats)):
        here = (levels == level)[:, None]
        pooled = RoIAlign.apply(feat, boxes * here.to(boxes.dtype), images, layer)
        here = here[..., None, None]
        result = pooled if result is None else torch.where(here, pooled, result)
    return result
