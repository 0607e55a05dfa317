"""The CenterNet heads in a graph: the same decoding, then constant shapes."""
from typing import List, Optional, Tuple

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdeploy.utils import is_dynamic_shape
from mmengine.config import Config, ConfigDict
from torch import Tensor

from ...models.dense_heads import CenterNet2ProposalHead
from ...models.task_modules.center_decoder import decode
from ..postprocess import best_boxes, clip_to_images
from .detectors import get_image_sizes

HEADS = 'mmdet_centernet2.models.dense_heads.'
PROPOSE = HEADS + \
    'centernet2_proposal_head.CenterNet2ProposalHead.predict_by_feat'
DETECT = HEADS + 'centernet2_head.CenterNet2Head.predict_by_feat'


def decode_best(head: CenterNet2ProposalHead, heat_logits: List[Tensor],
                ltrbs: List[Tensor], cfg: ConfigDict,
                deploy_cfg: Config) -> Tuple[Tensor, Tensor]:
    """Decode, suppress and keep ``max_per_img`` boxes of each image.

    Args:
        head (CenterNet2ProposalHead): The head.
        heat_logits (list[Tensor]): Of each level, (B, C, H, W).
        ltrbs (list[Tensor]): Of each level, (B, 4, H, W).
        cfg (ConfigDict): ``test_cfg`` of the head.
        deploy_cfg (Config): Says whether image sizes are known.

    Returns:
        tuple[Tensor, Tensor]: Boxes and scores (B, N, 5), labels (B, N).
    """
    candidates = decode(
        [logits.float() for logits in heat_logits],
        [ltrb.float() for ltrb in ltrbs],
        head.strides,
        cfg.score_thr,
        cfg.nms_pre,
        head.sqrt_score,
        constant_k=is_dynamic_shape(deploy_cfg))
    return best_boxes(*candidates, cfg.nms, cfg.max_per_img)


@FUNCTION_REWRITER.register_rewriter(PROPOSE)
def proposal_head__predict_by_feat(
        self: CenterNet2ProposalHead,
        heat_logits: List[Tensor],
        ltrbs: List[Tensor],
        batch_img_metas: Optional[List[dict]] = None,
        cfg: Optional[ConfigDict] = None,
        rescale: bool = False) -> Tuple[Tensor, Tensor]:
    """Proposals with scores (B, N, 5), not clipped, and labels (B, N)."""
    ctx = FUNCTION_REWRITER.get_context(PROPOSE)
    return decode_best(self, heat_logits, ltrbs, cfg or self.test_cfg,
                       ctx.cfg)


@FUNCTION_REWRITER.register_rewriter(DETECT)
def head__predict_by_feat(self: CenterNet2ProposalHead,
                          heat_logits: List[Tensor],
                          ltrbs: List[Tensor],
                          batch_img_metas: Optional[List[dict]] = None,
                          cfg: Optional[ConfigDict] = None,
                          rescale: bool = False) -> Tuple[Tensor, Tensor]:
    """Detections (B, N, 5), clipped to their images, and labels (B, N)."""
    ctx = FUNCTION_REWRITER.get_context(DETECT)
    dets, labels = decode_best(self, heat_logits, ltrbs, cfg or self.test_cfg,
                               ctx.cfg)
    boxes = clip_to_images(dets[..., :4],
                           get_image_sizes(batch_img_metas, dets))
    return torch.cat([boxes, dets[..., 4:]], dim=-1), labels
