"""What TensorRT is given in another form: no plugin, no size from values."""
from typing import Optional, Sequence

import torch
import torch.nn.functional as F
from mmdeploy.core import FUNCTION_REWRITER
from mmdeploy.utils import Backend
from torch import Tensor

from ...models.roi_heads import CanonicalRoIExtractor
from ..dense_nms import dense_nms
from .roi_heads import pool_level

TENSORRT = Backend.TENSORRT.value


@FUNCTION_REWRITER.register_rewriter(
    'mmdet_centernet2.deploy.postprocess.suppress', backend=TENSORRT)
def suppress__dense(boxes: Tensor, scores: Tensor, iou_threshold: float,
                    score_threshold: float, max_num: int) -> Tensor:
    """NMS by comparisons and products of matrices.

    ``max_num`` is not used: the best of all classes are taken after it.
    """
    keep = dense_nms(boxes, scores, iou_threshold, score_threshold)
    return torch.where(keep, scores, -torch.ones_like(scores))


@FUNCTION_REWRITER.register_rewriter(
    'mmdet_centernet2.deploy.rewriters.roi_heads.pool_levels',
    backend=TENSORRT)
def pool_levels__all(extractor: CanonicalRoIExtractor,
                     feats: Sequence[Tensor], boxes: Tensor, images: Tensor,
                     levels: Tensor) -> Tensor:
    """Pool every box from every level and choose.

    On other levels than its own a box shrinks to a point, so that little is
    read there.
    """
    result = None
    for level, feat in enumerate(feats):
        here = levels == level
        pooled = pool_level(extractor, level, feat,
                            boxes * here[:, None].to(boxes.dtype), images)
        if result is None:
            result = pooled
        else:
            result = torch.where(here[:, None, None, None], pooled, result)
    return result


@FUNCTION_REWRITER.register_rewriter(
    'torch.nn.functional.group_norm', backend=TENSORRT)
def group_norm__standard(input: Tensor,
                         num_groups: int,
                         weight: Optional[Tensor] = None,
                         bias: Optional[Tensor] = None,
                         eps: float = 1e-5) -> Tensor:
    """``InstanceNormalization`` of the groups.

    mmdeploy's symbolic function for TensorRT makes an operator of its plugin
    library.
    """
    ones = input.new_ones(num_groups)
    groups = input.reshape(input.size(0), num_groups, -1)
    result = F.instance_norm(
        groups, weight=ones, bias=0 * ones, eps=eps).reshape(input.shape)
    shape = (1, -1) + (1, ) * (input.dim() - 2)
    if weight is not None:
        result = result * weight.reshape(shape)
    if bias is not None:
        result = result + bias.reshape(shape)
    return result
