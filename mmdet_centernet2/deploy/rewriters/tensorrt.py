"""Other forms for TensorRT: no plugin, no shape that depends on values."""

from collections.abc import Sequence

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdeploy.utils import Backend
from torch import Tensor

from ...models.roi_heads import CanonicalRoIExtractor
from ..ops import dense_nms
from .roi_heads import pool_level

TENSORRT = Backend.TENSORRT.value


@FUNCTION_REWRITER.register_rewriter(
    'mmdet_centernet2.deploy.postprocess.suppress', backend=TENSORRT
)
def suppress__dense(
    boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float, max_num: int
) -> Tensor:
    """NMS by comparisons and products of matrices; any number per class."""
    keep = dense_nms(boxes, scores, iou_threshold, score_threshold)
    return torch.where(keep, scores, -torch.ones_like(scores))


@FUNCTION_REWRITER.register_rewriter(
    'mmdet_centernet2.deploy.rewriters.roi_heads.pool_levels', backend=TENSORRT
)
def pool_levels__all(
    extractor: CanonicalRoIExtractor,
    feats: Sequence[Tensor],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
) -> Tensor:
    """Pool every box from every level and choose.

    On other levels than its own a box shrinks to a point, so that little is
    read there.
    """
    result = pool_level(
        extractor, 0, feats[0], boxes * (levels == 0)[:, None].to(boxes.dtype), images
    )
    for level, feat in enumerate(feats[1:], 1):
        here = (levels == level)[:, None]
        pooled = pool_level(extractor, level, feat, boxes * here.to(boxes.dtype), images)
        result = torch.where(here[..., None, None], pooled, result)
    return result
