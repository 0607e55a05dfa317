"""Second stages of CenterNet2: cascade and single."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from mmdet.models.roi_heads import BaseRoIHead, CascadeRoIHead, StandardRoIHead
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import ConfigType, InstanceList, MultiConfig
from mmengine.config import ConfigDict
from torch import Tensor

from ..layers import disable_compile
from ..ops import prepare_features
from ..task_modules import to_device
from ..task_modules.batch_sampling import SampledRoIs, sample_batch
from .centernet2_bbox_head import CenterNet2BBoxHead


def fuse_scores(probs: Tensor, proposal_scores: Tensor) -> Tensor:
    """Geometric mean of class probabilities (n, C + 1) and proposal scores (n, ).

    Source: CenterNet2 paper (arXiv 2103.07461); docs/differences.md, 35.
    """
    return torch.sqrt(probs * proposal_scores[:, None])


def prepare_gt(batch_data_samples: SampleList) -> SampleList:
    """The ground truth that RoIs are matched to. One device-host sync.

    Boxes without area, as resizing may leave them, take no part: their deltas
    are infinite. Equal boxes of an image get the label of the first of them:
    the original matches the ground truth among its RoIs like any other RoI,
    mmdet's samplers match each box to itself.

    Args:
        batch_data_samples: With ``gt_instances``, boxes as tensors of shape
            (n, 4) in pixels. They are not changed.

    Source: docs/differences.md, 27.
    """
    counts = [len(sample.gt_instances) for sample in batch_data_samples]
    boxes = torch.cat([sample.gt_instances.bboxes for sample in batch_data_samples]).cpu().numpy()
    prepared = []
    for sample, box in zip(batch_data_samples, np.split(boxes, np.cumsum(counts)[:-1])):
        gt = sample.gt_instances
        _, first, groups = np.unique(box, axis=0, return_index=True, return_inverse=True)
        first = first[groups.reshape(-1)]
        if (first != np.arange(len(box))).any():
            gt = gt.new()
            gt.labels = gt.labels[to_device(first, gt.labels.device)]
        has_area = (box[:, 2:] > box[:, :2]).all(1)
        if not has_area.all():
            gt = gt[to_device(np.flatnonzero(has_area), gt.labels.device)]
        sample = sample.new()
        sample.gt_instances = gt
        prepared.append(sample)
    return prepared


def _add_explanation(
    results: InstanceList, proposals: InstanceList, stage_probs: Sequence[Tensor]
) -> None:
    """Tell, for each detection, what its score was made of: ``test_cfg.rcnn.explain=True``.

    Adds ``proposal_scores`` (n, ), the root of the heat at the proposal's cell;
    ``levels`` (n, ), the index of its pyramid level; ``stage_probs``
    (n, S, C + 1), class probabilities of each stage, background last; and
    ``class_probs`` (n, C + 1), their mean. The score of class c is
    ``sqrt(proposal_scores * class_probs[:, c])``.
    """
    counts = [len(each) for each in proposals]
    stage_probs = torch.stack(list(stage_probs), 1).split(counts)
    for result, proposal, probs in zip(results, proposals, stage_probs):
        indices = result.proposal_indices
        result.proposal_scores = proposal.scores[indices]
        if 'levels' in proposal:
            result.levels = proposal.levels[indices]
        result.stage_probs = probs[indices]
        result.class_probs = result.stage_probs.mean(1)


class _SecondStage(BaseRoIHead):
    """What the cascade and the single second stage share."""

    def _stages(self) -> list[tuple[CenterNet2BBoxHead, Callable]]:
        """Head of each stage, and its function from features and RoIs to predictions."""
        raise NotImplementedError

    def _mask_loss(
        self,
        x: tuple[Tensor],
        outputs: dict[str, Tensor],
        sampled: SampledRoIs,
        samples: SampleList,
        cfg: ConfigDict,
    ) -> dict:
        """Loss of the mask head on positive RoIs; see mmdet's ``StandardRoIHead.mask_loss``."""
        if self.share_roi_extractor:
            inputs = dict(bbox_feats=outputs['bbox_feats'], pos_inds=sampled.pos_inds)
        else:
            inputs = dict(rois=sampled.rois.index_select(0, sampled.pos_inds))
        preds = self._mask_forward(x, **inputs)['mask_preds']
        gts = [sample.gt_instances for sample in samples]
        return self.mask_head.loss_and_target(preds, sampled.images(), gts, cfg)['loss_mask']

    def _run_stages(
        self, x: tuple[Tensor, ...], rois: Tensor, batch_img_metas: list[dict]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """RoIs (n, 5) and deltas (n, 4) of the last stage, probabilities (n, C + 1) of each."""
        outputs: dict[str, Tensor] = {}
        stages, stage_probs = self._stages(), []
        for i, (head, forward) in enumerate(stages):
            if i > 0:
                rois = stages[i - 1][0].decode_rois(rois, outputs['bbox_pred'], batch_img_metas)
            outputs = forward(x, rois)
            stage_probs.append(head.get_probs(outputs['cls_score']))
        return rois, outputs['bbox_pred'], stage_probs

    def forward(
        self, x: tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> tuple[Tensor, ...]:
        """Probabilities (n, C + 1), deltas (n, 4) and mask logits, for ``mode='tensor'``."""
        rois = bbox2roi([each.bboxes for each in rpn_results_list])
        metas = [sample.metainfo for sample in batch_data_samples]
        rois, deltas, stage_probs = self._run_stages(x, rois, metas)
        masks = [self._mask_forward(x, rois)['mask_preds']] if self.with_mask else []
        return stage_probs[-1], deltas, *masks

    def predict_bbox(
        self,
        x: tuple[Tensor],
        batch_img_metas: list[dict],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: ConfigType,
        rescale: bool = False,
    ) -> InstanceList:
        """See mmdet's ``StandardRoIHead``; proposals need ``bboxes`` and ``scores``."""
        counts = tuple(len(each) for each in rpn_results_list)
        rois = bbox2roi([each.bboxes for each in rpn_results_list])
        rois, deltas, stage_probs = self._run_stages(prepare_features(x), rois, batch_img_metas)
        probs = sum(stage_probs[1:], stage_probs[0]) / len(stage_probs)
        scores = fuse_scores(probs, torch.cat([each.scores for each in rpn_results_list]))
        last_head, _ = self._stages()[-1]
        results = last_head.predict_by_feat(
            rois=rois.split(counts),
            cls_scores=scores.split(counts),
            bbox_preds=deltas.split(counts),
            batch_img_metas=batch_img_metas,
            rcnn_test_cfg=rcnn_test_cfg,
            rescale=rescale,
        )
        if rcnn_test_cfg is not None and rcnn_test_cfg.get('explain'):
            _add_explanation(results, rpn_results_list, stage_probs)
        return results


@MODELS.register_module()
class CenterNet2CascadeRoIHead(_SecondStage, CascadeRoIHead):
    """Cascade second stage that weighs its classes by the proposals' scores.

    Against mmdet's ``CascadeRoIHead``: probabilities, not logits, are
    averaged over the stages and fused with the proposal's score;
    RoI features pass on ``1 / num_stages`` of their gradient. A mask head, if
    any, is one for all stages: trained on the first stage's samples, applied
    to the final boxes.

    Args:
        *args, **kwargs: See mmdet's ``CascadeRoIHead``.
        bbox_head: A :class:`CenterNet2BBoxHead`, one config for all stages or
            a list of them.
        num_stages: Number of stages.
        stage_loss_weights: Defaults to ones.
        stage_target_stds: With one ``bbox_head`` for all stages:
            ``target_stds`` of each stage's box coder.

    Raises:
        ValueError: If there is not one ``stage_target_stds`` for each stage.

    Source: CenterNet2 paper (arXiv 2103.07461); docs/differences.md, 27 to 29
    and 34 to 36.
    """

    def __init__(
        self,
        *args,
        bbox_head: MultiConfig,
        num_stages: int = 3,
        stage_loss_weights: Sequence[float] | None = None,
        stage_target_stds: Sequence[Sequence[float]] | None = None,
        **kwargs,
    ) -> None:
        if stage_target_stds is not None:
            if len(stage_target_stds) != num_stages:
                raise ValueError(
                    f'{num_stages} stages need as many stage_target_stds, '
                    f'got {len(stage_target_stds)}'
                )
            bbox_head = [
                dict(bbox_head, bbox_coder=dict(bbox_head['bbox_coder'], target_stds=list(stds)))
                for stds in stage_target_stds
            ]
        super().__init__(
            num_stages,
            stage_loss_weights or [1.0] * num_stages,
            *args,
            bbox_head=bbox_head,
            **kwargs,
        )

    @disable_compile  # another number of RoIs in each batch
    def loss(
        self, x: tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> dict:
        """See mmdet's ``CascadeRoIHead`` and :func:`prepare_gt`; the same numbers."""
        samples = prepare_gt(batch_data_samples)
        metas = [sample.metainfo for sample in samples]
        proposals = [each.bboxes for each in rpn_results_list]
        losses = {}
        for stage, weight in enumerate(self.stage_loss_weights):
            self.current_stage = stage  # for mmdet's OHEMSampler
            head, cfg = self.bbox_head[stage], self.train_cfg[stage]
            sampled = sample_batch(
                self.bbox_assigner[stage], self.bbox_sampler[stage], proposals, samples, x
            )
            outputs = self._bbox_forward(stage, x, sampled.rois)
            deltas = outputs['bbox_pred']
            stage_losses = head.loss_and_target(outputs['cls_score'], deltas, sampled, cfg)
            if self.with_mask and stage == 0:
                stage_losses.update(self._mask_loss(x, outputs, sampled, samples, cfg))
            for name, value in stage_losses.items():
                losses[f's{stage}.{name}'] = value * weight if 'loss' in name else value
            if stage < self.num_stages - 1:
                proposals = head.refine_bboxes(sampled, deltas, metas)
        return losses

    def _bbox_forward(self, stage: int, x: tuple[Tensor], rois: Tensor) -> dict:
        """Pool and predict; see mmdet's ``CascadeRoIHead``."""
        extractor = self.bbox_roi_extractor[stage]
        bbox_feats = extractor(x[: extractor.num_inputs], rois)
        if self.training and bbox_feats.requires_grad:
            bbox_feats.register_hook(lambda grad: grad * (1.0 / self.num_stages))
        cls_score, bbox_pred = self.bbox_head[stage](bbox_feats)
        return dict(cls_score=cls_score, bbox_pred=bbox_pred, bbox_feats=bbox_feats)

    def _stages(self) -> list[tuple[CenterNet2BBoxHead, Callable]]:
        return [(head, partial(self._bbox_forward, i)) for i, head in enumerate(self.bbox_head)]

    # One mask head, as in the single-stage head of mmdet.
    init_mask_head = StandardRoIHead.init_mask_head
    _mask_forward = StandardRoIHead._mask_forward
    predict_mask = StandardRoIHead.predict_mask


@MODELS.register_module()
class CenterNet2RoIHead(_SecondStage, StandardRoIHead):
    """Single second stage that weighs its classes by the proposals' scores.

    See mmdet's ``StandardRoIHead``; ``bbox_head`` is a
    :class:`CenterNet2BBoxHead`.

    Source: CenterNet2 paper (arXiv 2103.07461); docs/differences.md, 35.
    """

    @disable_compile
    def loss(
        self, x: tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> dict:
        """See mmdet's ``StandardRoIHead`` and :func:`prepare_gt`; the same numbers."""
        samples = prepare_gt(batch_data_samples)
        proposals = [each.bboxes for each in rpn_results_list]
        sampled = sample_batch(self.bbox_assigner, self.bbox_sampler, proposals, samples, x)
        outputs = self._bbox_forward(x, sampled.rois)
        losses = self.bbox_head.loss_and_target(
            outputs['cls_score'], outputs['bbox_pred'], sampled, self.train_cfg
        )
        if self.with_mask:
            losses.update(self._mask_loss(x, outputs, sampled, samples, self.train_cfg))
        return losses

    def _stages(self) -> list[tuple[CenterNet2BBoxHead, Callable]]:
        return [(self.bbox_head, self._bbox_forward)]
