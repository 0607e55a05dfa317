"""Box head of the second stage."""
from typing import List, NamedTuple, Optional, Tuple, Union

import torch
import torch.nn.functional as F
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads import Shared2FCBBoxHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.utils import InstanceList, OptMultiConfig
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..losses.chosen_rows import chosen_rows
from ..losses.federated_loss import ChosenScores
from ..task_modules.postprocess import finish_detections


class DeferredScores(NamedTuple):
    """In place of logits that wait until it is known which are needed.

    Args:
        features (Tensor): Input of the classifier, shape (n, D).
    """
    features: Tensor


@MODELS.register_module()
class CenterNet2BBoxHead(Shared2FCBBoxHead):
    """``Shared2FCBBoxHead`` with the original's refinement and inference.

    Boxes are class-agnostic. Between stages every box is kept, ground truth
    included, but for those that are empty after clipping. Detections
    are found in pixels of the network input: NMS first, then rescaling.

    Args:
        *args: See mmdet's ``Shared2FCBBoxHead``.
        init_cfg (dict, optional): Defaults to Caffe2's Xavier for the shared
            layers, N(0, 0.01) for scores, N(0, 0.001) for boxes. A
            ``loss_cls`` with a ``prior_prob``, as :class:`FederatedLoss` has,
            makes the scores start there.
        **kwargs: See there.

    Raises:
        ValueError: If boxes are not class-agnostic.

    Source: docs/differences.md, 26, 28 and 38.
    """

    def __init__(self,
                 *args,
                 reg_class_agnostic: bool = True,
                 init_cfg: OptMultiConfig = None,
                 **kwargs) -> None:
        if not reg_class_agnostic:
            raise ValueError(f'{type(self).__name__} regresses one box for '
                             'all classes: set reg_class_agnostic=True')
        super().__init__(
            *args, reg_class_agnostic=True, init_cfg=init_cfg, **kwargs)
        if init_cfg is None:
            self.init_cfg = [
                dict(
                    type='Normal',
                    std=0.01,
                    bias_prob=getattr(self.loss_cls, 'prior_prob', None),
                    override=dict(name='fc_cls')),
                dict(type='Normal', std=0.001, override=dict(name='fc_reg')),
                # `layer` would also reach the two predictors
                dict(type='Caffe2Xavier', override=dict(name='shared_fcs')),
            ]

    def get_probs(self, cls_score: Tensor) -> Tensor:
        """Class probabilities, background last.

        Args:
            cls_score (Tensor): Logits, shape (n, C + 1).

        Returns:
            Tensor: FP32, shape (n, C + 1); softmax, unless ``loss_cls`` has
            an activation of its own.
        """
        if self.custom_activation:
            return self.loss_cls.get_activation(cls_score.float())
        return cls_score.float().softmax(dim=-1)

    def forward_train(
        self, bbox_feats: Tensor
    ) -> Tuple[Union[Tensor, DeferredScores], Tensor]:
        """Predict for :meth:`loss`; like ``forward`` unless classes are few.

        A loss that samples classes gets its logits only when the labels are
        known, and no others are computed. Anything hooked to ``fc_cls`` is
        passed over then.

        Args:
            bbox_feats (Tensor): Pooled features, shape (n, C, 7, 7).

        Returns:
            tuple[Tensor or DeferredScores, Tensor]: Scores and deltas.
        """
        samples = getattr(self.loss_cls, 'samples_classes', False)
        if not samples or type(self.fc_cls) is not nn.Linear:
            return self(bbox_feats)
        if self.with_avg_pool:
            bbox_feats = self.avg_pool(bbox_feats)
        x = bbox_feats.flatten(1)
        for shared_fc in self.shared_fcs:
            x = self.relu(shared_fc(x))
        return DeferredScores(x), self.fc_reg(x)

    @torch.compiler.disable
    def _score(self, deferred: DeferredScores,
               labels: Tensor) -> Union[Tensor, ChosenScores]:
        """Logits of the classes that the loss chooses for these labels."""
        features = deferred.features
        if not len(features):
            return self.fc_cls(features)  # all parameters in the graph
        classes = self.loss_cls.sample_classes(labels, self.num_classes)
        logits = F.linear(features, chosen_rows(self.fc_cls.weight, classes),
                          chosen_rows(self.fc_cls.bias, classes))
        return ChosenScores(logits, classes, self.num_classes)

    def loss(self, cls_score: Union[Tensor, DeferredScores],
             bbox_pred: Tensor, rois: Tensor, labels: Tensor, *args,
             **kwargs) -> dict:
        """See mmdet's ``BBoxHead.loss``.

        Without any RoI the same keys come back as zeros with a graph, so
        that all processes of a distributed run agree on the losses.
        """
        if isinstance(cls_score, DeferredScores):
            cls_score = self._score(cls_score, labels)
        if cls_score.numel():
            return super().loss(cls_score, bbox_pred, rois, labels, *args,
                                **kwargs)
        return dict(
            loss_cls=cls_score.sum(),
            acc=cls_score.new_zeros(1),
            loss_bbox=bbox_pred.sum())

    def decode_rois(self, rois: Tensor, bbox_pred: Tensor,
                    batch_img_metas: List[dict]) -> Tensor:
        """Refine RoIs and clip them to their unpadded images.

        Args:
            rois (Tensor): (image, x1, y1, x2, y2) in pixels, shape (n, 5).
            bbox_pred (Tensor): Encoded deltas, shape (n, 4).
            batch_img_metas (list[dict]): ``img_shape`` of each image.

        Returns:
            Tensor: Refined RoIs, shape (n, 5).
        """
        boxes = self.bbox_coder.decode(rois[:, 1:], bbox_pred.float())
        shapes = rois.new_tensor(
            [meta['img_shape'][:2] for meta in batch_img_metas])
        limits = shapes[rois[:, 0].long()].flip(-1).repeat(1, 2)
        boxes = torch.min(boxes.clamp(min=0), limits)
        return torch.cat([rois[:, :1], boxes], dim=1)

    def refine_bboxes(self, sampling_results: List[SamplingResult],
                      bbox_results: dict,
                      batch_img_metas: List[dict]) -> InstanceList:
        """Boxes for the next stage in training: all that are not empty.

        Args:
            sampling_results (list[SamplingResult]): Of each image.
            bbox_results (dict): ``rois`` (n, 5) and ``bbox_pred`` (n, 4).
            batch_img_metas (list[dict]): ``img_shape`` of each image.

        Returns:
            list[InstanceData]: ``bboxes`` of each image, in pixels.
        """
        rois = self.decode_rois(bbox_results['rois'],
                                bbox_results['bbox_pred'], batch_img_metas)
        counts = [len(res.priors) for res in sampling_results]
        return [
            InstanceData(bboxes=boxes[(boxes[:, 2:] > boxes[:, :2]).all(-1)])
            for boxes in rois[:, 1:].split(counts)
        ]

    def _predict_by_feat_single(
            self,
            roi: Tensor,
            cls_score: Tensor,
            bbox_pred: Tensor,
            img_meta: dict,
            rescale: bool = False,
            rcnn_test_cfg: Optional[ConfigDict] = None) -> InstanceData:
        """Detections of one image.

        Args:
            roi (Tensor): RoIs of the last stage, shape (n, 5).
            cls_score (Tensor): Final **scores**, not logits, background
                last, shape (n, C + 1).
            bbox_pred (Tensor): Deltas of the last stage, shape (n, 4).
            img_meta (dict): See :func:`finish_detections`.
            rescale (bool): Whether to return pixels of the original image.
            rcnn_test_cfg (ConfigDict, optional): ``score_thr``, ``nms`` and
                ``max_per_img``; None returns all boxes with all scores.

        Returns:
            InstanceData: ``bboxes``, ``scores`` and ``labels``.
        """
        boxes = self.bbox_coder.decode(
            roi[:, 1:], bbox_pred.float(), max_shape=img_meta['img_shape'])
        finite = boxes.isfinite().all(-1) & cls_score.isfinite().all(-1)
        boxes, scores = boxes[finite], cls_score[finite]
        if rcnn_test_cfg is None:
            return InstanceData(bboxes=boxes, scores=scores)
        dets, labels = multiclass_nms(boxes, scores, rcnn_test_cfg.score_thr,
                                      rcnn_test_cfg.nms,
                                      rcnn_test_cfg.max_per_img)
        results = InstanceData(
            bboxes=dets[:, :4], scores=dets[:, 4], labels=labels)
        return finish_detections(results, img_meta, rescale)
