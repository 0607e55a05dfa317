"""The CenterNet heads in a graph: the same decoding, then constant shapes."""

from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdeploy.utils import is_dynamic_shape
from mmengine.config import ConfigDict
from torch import Tensor

from ...models.dense_heads import CenterNet2ProposalHead
from ...models.task_modules.center_decoder import decode
from ..postprocess import best_boxes, clip_to_images
from .detectors import get_image_sizes

HEADS = 'mmdet_centernet2.models.dense_heads.'
PROPOSE = HEADS + 'centernet2_proposal_head.CenterNet2ProposalHead.predict_by_feat'
DETECT = HEADS + 'centernet2_head.CenterNet2Head.predict_by_feat'


@FUNCTION_REWRITER.register_rewriter(PROPOSE)
def proposal_head__predict_by_feat(
    self: CenterNet2ProposalHead,
    heat_logits: list[Tensor],
    ltrbs: list[Tensor],
    cfg: ConfigDict | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """The ``max_per_img`` best boxes (B, N, 5), not clipped, and their labels (B, N)."""
    cfg = cfg or self.test_cfg
    dynamic = is_dynamic_shape(FUNCTION_REWRITER.get_context(PROPOSE).cfg)
    maps = [[level.float() for level in levels] for levels in (heat_logits, ltrbs)]
    options = self.strides, cfg.score_thr, cfg.nms_pre, self.sqrt_score
    found = decode(*maps, *options, constant_k=dynamic)
    return best_boxes(found.boxes, found.scores, found.labels, cfg.nms, cfg.max_per_img)


@FUNCTION_REWRITER.register_rewriter(DETECT)
def head__predict_by_feat(
    self: CenterNet2ProposalHead,
    heat_logits: list[Tensor],
    ltrbs: list[Tensor],
    batch_img_metas: list[dict],
    cfg: ConfigDict | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Detections (B, N, 5), clipped to their images, and labels (B, N)."""
    dets, labels = proposal_head__predict_by_feat(self, heat_logits, ltrbs, cfg)
    boxes = clip_to_images(dets[..., :4], get_image_sizes(batch_img_metas[0], dets))
    return torch.cat([boxes, dets[..., 4:]], dim=-1), labels
