"""What TensorRT is given in another form: no plugin, no size from values."""

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
    result = None
    for level, feat in enumerate(feats):
        here = levels == level
        pooled = pool_level(extractor, level, feat, boxes * here[:, None].to(boxes.dtype), images)
        result = (
            pooled if result is None else torch.where(here[:, None, None, None], pooled, result)
        )
    return result
