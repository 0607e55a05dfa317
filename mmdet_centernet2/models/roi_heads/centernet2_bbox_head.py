"""Box head of the second stage."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.roi_heads import Shared2FCBBoxHead
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import InstanceList, OptMultiConfig
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..ops import gather_rows, multiclass_nms
from ..task_modules import rescale_and_clip


@TASK_UTILS.register_module()
class OneSidedDeltaXYWHBBoxCoder(DeltaXYWHBBoxCoder):
    """``DeltaXYWHBBoxCoder`` that limits growth but not shrinkage.

    mmdet's does so when a limit on the centre's shift is set: an infinite one.

    Source: detectron2's ``Box2BoxTransform``; docs/differences.md, 30.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, add_ctr_clamp=True, ctr_clamp=math.inf, **kwargs)


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
            and getattr(self.loss_cls, 'samples_classes', False)
            and type(self.fc_cls) is nn.Linear
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, num_classes + 1) and deltas (n, 4) of features (n, C, 7, 7).

        In training with a :class:`FederatedLoss` the classifier's input (n, D)
        stands for the logits: :meth:`loss` computes those of sampled classes.
        """
        if not self._defers_scores:
            return super().forward(x)
        if self.with_avg_pool:
            x = self.avg_pool(x)
        x = x.flatten(1)
        for shared_fc in self.shared_fcs:
            x = self.relu(shared_fc(x))
        return x, self.fc_reg(x)

    def loss(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        rois: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        *args,
        **kwargs,
    ) -> dict:
        """See mmdet's ``BBoxHead.loss``, and :meth:`forward`."""
        if not len(rois):  # the same keys and graph in all processes of a run
            if self._defers_scores:
                cls_score = self.fc_cls(cls_score)
            return dict(
                loss_cls=cls_score.sum(), acc=cls_score.new_zeros(1), loss_bbox=bbox_pred.sum()
            )
        if not self._defers_scores:
            return super().loss(cls_score, bbox_pred, rois, labels, label_weights, *args, **kwargs)
        classes = self.loss_cls.sample_classes(labels, self.num_classes)
        logits = F.linear(
            cls_score,
            gather_rows(self.fc_cls.weight, classes),
            gather_rows(self.fc_cls.bias, classes),
        )
        num_weighted = max((label_weights > 0).sum().item(), 1)
        loss_cls = self.loss_cls(
            logits,
            labels,
            label_weights,
            num_weighted,
            classes=classes,
            reduction_override=kwargs.get('reduction_override'),
        )
        return dict(
            loss_cls=loss_cls,
            **self.loss_cls.get_accuracy(logits, labels, classes),
            **super().loss(None, bbox_pred, rois, labels, label_weights, *args, **kwargs),
        )

    def get_targets(
        self,
        sampling_results: list[SamplingResult],
        rcnn_train_cfg: ConfigDict,
        concat: bool = True,
    ) -> tuple:
        """See mmdet's ``BBoxHead``; the targets of all images are encoded at once."""
        if not concat or self.reg_decoded_bbox:
            return super().get_targets(sampling_results, rcnn_train_cfg, concat)
        priors = torch.cat([res.pos_priors for res in sampling_results])
        is_pos = np.concatenate(
            [
                np.arange(len(res.pos_priors) + len(res.neg_priors)) < len(res.pos_priors)
                for res in sampling_results
            ]
        )
        pos_inds = torch.from_numpy(is_pos.nonzero()[0]).to(priors.device, non_blocking=True)
        labels = pos_inds.new_full((len(is_pos),), self.num_classes)
        label_weights = priors.new_ones(len(is_pos))
        bbox_targets = priors.new_zeros(len(is_pos), self.bbox_coder.encode_size)
        bbox_weights = torch.zeros_like(bbox_targets)
        if len(priors):
            gt_bboxes = torch.cat([res.pos_gt_bboxes for res in sampling_results])
            gt_labels = torch.cat([res.pos_gt_labels for res in sampling_results])
            labels.index_copy_(0, pos_inds, gt_labels.long())
            deltas = self.bbox_coder.encode(priors, gt_bboxes)
            bbox_targets.index_copy_(0, pos_inds, deltas.to(bbox_targets.dtype))
            bbox_weights.index_fill_(0, pos_inds, 1)
            if rcnn_train_cfg.pos_weight > 0:
                label_weights.index_fill_(0, pos_inds, rcnn_train_cfg.pos_weight)
        return labels, label_weights, bbox_targets, bbox_weights

    def decode_rois(self, rois: Tensor, bbox_pred: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Refine RoIs (n, 5) by deltas (n, 4) and clip them to unpadded images."""
        boxes = self.bbox_coder.decode(rois[:, 1:], bbox_pred.float())
        shapes = rois.new_tensor([meta['img_shape'][:2] for meta in batch_img_metas])
        limits = shapes[rois[:, 0].long()].flip(-1).repeat(1, 2)
        boxes = torch.min(boxes.clamp(min=0), limits)
        return torch.cat([rois[:, :1], boxes], dim=1)

    def refine_bboxes(
        self,
        sampling_results: list[SamplingResult],
        bbox_results: dict,
        batch_img_metas: list[dict],
    ) -> InstanceList:
        """Boxes of the next training stage, in pixels: all but empty ones."""
        rois = self.decode_rois(bbox_results['rois'], bbox_results['bbox_pred'], batch_img_metas)
        kept = (rois[:, 3:] > rois[:, 1:3]).all(-1).cpu().numpy()
        counts = [len(res.priors) for res in sampling_results]
        parts = np.split(kept, np.cumsum(counts)[:-1])
        kept_counts = [int(part.sum()) for part in parts]
        indices = torch.from_numpy(kept.nonzero()[0]).to(rois.device, non_blocking=True)
        boxes = rois[:, 1:].index_select(0, indices)
        return [InstanceData(bboxes=each) for each in boxes.split(kept_counts)]

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
