"""Other forms for TensorRT: no plugin, no shape that depends on values."""

from collections.abc import Sequence

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdeploy.utils import Backend
from torch import Tensor, nn

from ..ops import RoIAlign, dense_nms

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
