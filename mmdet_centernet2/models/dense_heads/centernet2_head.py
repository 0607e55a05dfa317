"""The class-wise CenterNet head, a detector of one stage."""

import torch
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList
from mmengine.config import ConfigDict
from torch import Tensor

from ..task_modules import rescale_and_clip
from .centernet2_proposal_head import CenterNet2ProposalHead


@MODELS.register_module()
class CenterNet2Head(CenterNet2ProposalHead):
    """Class-wise CenterNet head: one heat map for each class, and boxes.

    A second tower feeds the heat maps; scores are the heat itself. Arguments
    are those of :class:`CenterNet2ProposalHead`.

    Source: CenterNet2 paper (arXiv 2103.07461), its one-stage CenterNet.
    """

    heat_predictor = 'conv_cls'
    heat_loss_name = ''
    has_cls_tower = True
    sqrt_score = False

    def __init__(
        self,
        num_classes: int,
        more_pos: dict | None = dict(thresh=0.2, topk=9),
        loss_cls: ConfigType = dict(type='HeatmapFocalLoss'),
        **kwargs,
    ) -> None:
        super().__init__(num_classes=num_classes, more_pos=more_pos, loss_cls=loss_cls, **kwargs)

    @torch.no_grad()
    def predict_by_feat(
        self,
        heat_logits: list[Tensor],
        ltrbs: list[Tensor],
        batch_img_metas: list[dict],
        cfg: ConfigDict | None = None,
        rescale: bool = False,
    ) -> InstanceList:
        """Decode detections: NMS, then rescaling, then clipping; see :func:`rescale_and_clip`."""
        cfg = cfg or self.test_cfg
        results = super().predict_by_feat(heat_logits, ltrbs, cfg=cfg)
        if not cfg.get('explain'):
            for result in results:
                del result.levels
        return [
            rescale_and_clip(result, meta, rescale)
            for result, meta in zip(results, batch_img_metas)
        ]
