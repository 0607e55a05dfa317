"""Box head of the second stage."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.losses import accuracy
from mmdet.models.roi_heads import Shared2FCBBoxHead
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import OptMultiConfig
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..ops import gather_rows, multiclass_nms
from ..task_modules import rescale_and_clip, to_device
from ..task_modules.batch_sampling import SampledRoIs


@TASK_UTILS.register_module()
class OneSidedDeltaXYWHBBoxCoder(DeltaXYWHBBoxCoder):
    """``DeltaXYWHBBoxCoder`` that limits growth but not shrinkage.

    mmdet's does so when a limit on the centre's shift is set: an infinite one.

    Source: detectron2's ``Box2BoxTransform``; docs/differences.md, 30.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, add_ctr_clamp=True, ctr_clamp=math.inf, **kwargs)

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """FP32 deltas (n, 4) from boxes to objects, both (n, 4).

        mmdet's numbers, but the host does not wait for means and deviations.
        """
        corners = [each.float().unflatten(1, (2, 2)).unbind(1) for each in (bboxes, gt_bboxes)]
        (center, size), (gt_center, gt_size) = [((a + b) * 0.5, b - a) for a, b in corners]
        deltas = torch.cat([(gt_center - center) / size, (gt_size / size).log()], 1)
        means, stds = to_device(np.array([self.means, self.stds], np.float32), deltas.device)
        return (deltas - means) / stds


@MODELS.register_module()
class CenterNet2BBoxHead(Shared2FCBBoxHead):
    """``Shared2FCBBoxHead`` with the original's refinement and inference.

    Boxes are class-agnostic. Between stages every box is kept, ground truth
    included, but for those that are empty after clipping. NMS comes before
    rescaling to the original image.

    Args:
        *args, **kwargs: See mmdet's ``Shared2FCBBoxHead``.
        init_cfg: Defaults to Caffe2's Xavier for the shared layers, N(0, 0.01)
            for scores, N(0, 0.001) for boxes. A ``loss_cls`` with a
            ``prior_prob``, as :class:`FederatedLoss` has, makes the scores
            start there.

    Raises:
        ValueError: If boxes are not class-agnostic.

    Source: docs/differences.md, 26, 28 and 38.
    """

    def __init__(
        self, *args, reg_class_agnostic: bool = True, init_cfg: OptMultiConfig = None, **kwargs
    ) -> None:
        if not reg_class_agnostic:
            raise ValueError('boxes are those of all classes: set reg_class_agnostic=True')
        super().__init__(*args, reg_class_agnostic=True, init_cfg=init_cfg, **kwargs)
        if init_cfg is None:
            self.init_cfg = [
                dict(
                    type='Normal',
                    std=0.01,
                    bias_prob=getattr(self.loss_cls, 'prior_prob', None),
                    override=dict(name='fc_cls'),
                ),
                dict(type='Normal', std=0.001, override=dict(name='fc_reg')),
                # `layer` would also reach the two predictors
                dict(type='Caffe2Xavier', override=dict(name='shared_fcs')),
            ]

    def get_probs(self, cls_score: Tensor) -> Tensor:
        """FP32 probabilities of logits (n, C + 1), background last."""
        if self.custom_activation:
            return self.loss_cls.get_activation(cls_score.float())
        return cls_score.float().softmax(dim=-1)

    @property
    def _defers_scores(self) -> bool:
        """Whether the loss chooses, by the labels, which logits it needs."""
        return (
            self.training
            and getattr(self.loss_cls, 'num_sampled_classes', None) is not None
            and type(self.fc_cls) is nn.Linear
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, num_classes + 1) and deltas (n, 4) of features (n, C, 7, 7).

        In training with a :class:`FederatedLoss` the classifier's input (n, D)
        stands for the logits: :meth:`loss_and_target` computes those of sampled
        classes.
        """
        if not self._defers_scores:
            return super().forward(x)
        if self.with_avg_pool:
            x = self.avg_pool(x)
        x = x.flatten(1)
        for shared_fc in self.shared_fcs:
            x = self.relu(shared_fc(x))
        return x, self.fc_reg(x)

    def loss_and_target(
        self, cls_score: Tensor, bbox_pred: Tensor, sampled: SampledRoIs, rcnn_train_cfg: ConfigDict
    ) -> dict:
        """Losses of a batch's RoIs, without a device-host sync.

        What :meth:`forward` returns is ``cls_score`` and ``bbox_pred``.
        """
        rois, pos_inds = sampled.rois, sampled.pos_inds
        labels = pos_inds.new_full((len(rois),), self.num_classes)
        labels.index_copy_(0, pos_inds, sampled.gt_labels.long())
        weights = None
        if rcnn_train_cfg.pos_weight > 0:
            weights = rois.new_ones(len(rois)).index_fill_(0, pos_inds, rcnn_train_cfg.pos_weight)
        options = {}
        if self._defers_scores:
            classes = self.loss_cls.sample_classes(labels, self.num_classes)
            options = dict(classes=classes)
            cls_score = F.linear(
                cls_score,
                gather_rows(self.fc_cls.weight, classes),
                gather_rows(self.fc_cls.bias, classes),
            )
        num_rois = max(len(rois), 1)
        loss = self.loss_cls(cls_score, labels, weights, avg_factor=num_rois, **options)
        losses = loss if isinstance(loss, dict) else dict(loss_cls=loss)
        if self.custom_activation:
            losses.update(self.loss_cls.get_accuracy(cls_score, labels, **options))
        else:
            losses['acc'] = accuracy(cls_score, labels)
        priors, pred = rois[:, 1:].index_select(0, pos_inds), bbox_pred.index_select(0, pos_inds)
        if self.reg_decoded_bbox:
            pred, targets = self.bbox_coder.decode(priors, pred), sampled.gt_bboxes
        else:
            targets = self.bbox_coder.encode(priors, sampled.gt_bboxes).to(rois.dtype)
        losses['loss_bbox'] = self.loss_bbox(pred, targets, avg_factor=num_rois)
        return losses

    def decode_rois(self, rois: Tensor, bbox_pred: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Refine RoIs (n, 5) by deltas (n, 4) and clip them to unpadded images."""
        boxes = self.bbox_coder.decode(rois[:, 1:], bbox_pred.float())
        sizes = np.array([meta['img_shape'][1::-1] * 2 for meta in batch_img_metas], np.float32)
        limits = to_device(sizes, rois.device).to(rois.dtype).index_select(0, rois[:, 0].long())
        boxes = torch.min(boxes.clamp(min=0), limits)
        return torch.cat([rois[:, :1], boxes], dim=1)

    @torch.no_grad()
    def refine_bboxes(
        self, sampled: SampledRoIs, bbox_pred: Tensor, batch_img_metas: list[dict]
    ) -> tuple[Tensor, ...]:
        """Boxes of each image for the next training stage, in pixels: all but empty ones."""
        rois = self.decode_rois(sampled.rois, bbox_pred, batch_img_metas)
        kept = (rois[:, 3:] > rois[:, 1:3]).all(-1).cpu().numpy()
        images = np.arange(len(batch_img_metas)).repeat(sampled.counts.sum(1))
        counts = np.bincount(images[kept], minlength=len(batch_img_metas))
        boxes = rois[:, 1:].index_select(0, to_device(kept.nonzero()[0], rois.device))
        return boxes.split(counts.tolist())

    def _predict_by_feat_single(
        self,
        roi: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor,
        img_meta: dict,
        rescale: bool = False,
        rcnn_test_cfg: ConfigDict | None = None,
    ) -> InstanceData:
        """Detections of one image; see mmdet's ``BBoxHead``.

        ``cls_score`` (n, C + 1) are final **scores**, not logits, background
        last. Without ``rcnn_test_cfg`` all boxes with all scores come back.
        """
        boxes = self.bbox_coder.decode(
            roi[:, 1:], bbox_pred.float(), max_shape=img_meta['img_shape']
        )
        finite = boxes.isfinite().all(-1) & cls_score.isfinite().all(-1)
        boxes, scores = boxes[finite], cls_score[finite]
        if rcnn_test_cfg is None:
            return InstanceData(bboxes=boxes, scores=scores)
        dets, labels, indices = multiclass_nms(
            boxes, scores, rcnn_test_cfg.score_thr, rcnn_test_cfg.nms, rcnn_test_cfg.max_per_img
        )
        results = InstanceData(bboxes=dets[:, :4], scores=dets[:, 4], labels=labels)
        if rcnn_test_cfg.get('explain'):
            results.proposal_indices = finite.nonzero().squeeze(1)[indices]
        return rescale_and_clip(results, img_meta, rescale)
