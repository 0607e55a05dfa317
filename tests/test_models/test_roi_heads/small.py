"""Second stages with the flagship's settings and few channels."""

from collections.abc import Sequence
from functools import partial

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import InstanceList
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor

from tests.paths import CONFIGS
from tests.reference import adapters
from tests.reference.cascade import Detection, Head
from tests.reference.layout import Box

CHANNELS = 8
NUM_CLASSES = 4
PADDED = (128, 160)
#: Two images of different size, and what they were before resizing.
SIZES = ((100, 150), (128, 90))
ORIGINAL_SIZES = ((50, 300), (128, 90))


def build(single: bool = False, **test_cfg):
    """A second stage with weights that move boxes and take sides.

    Args:
        single: Build the one with a single stage.
        **test_cfg: Settings of testing that differ from the flagship's.
    """
    cfg = Config.fromfile(CONFIGS / '_base_/models/centernet2.py').model
    roi_cfg = cfg.roi_head
    roi_cfg.bbox_roi_extractor.out_channels = CHANNELS
    roi_cfg.bbox_head.update(in_channels=CHANNELS, fc_out_channels=32, num_classes=NUM_CLASSES)
    train_cfg = cfg.train_cfg.rcnn
    if single:
        for key in ('num_stages', 'stage_loss_weights', 'stage_target_stds'):
            roi_cfg.pop(key)
        roi_cfg.type = 'CenterNet2RoIHead'
        train_cfg = train_cfg[0]
    cfg.test_cfg.rcnn.update(test_cfg)
    roi_head = MODELS.build(dict(roi_cfg, train_cfg=train_cfg, test_cfg=cfg.test_cfg.rcnn))
    roi_head.init_weights()
    for name, parameter in roi_head.named_parameters():
        if name.endswith('fc_cls.weight'):
            torch.nn.init.normal_(parameter, std=0.6)
        if name.endswith('fc_reg.weight'):
            torch.nn.init.normal_(parameter, std=0.4)
    return roi_head


def features(batch: int = 2) -> tuple[Tensor, ...]:
    """Features of all levels, as leaves of a graph."""
    return tuple(
        torch.randn(batch, CHANNELS, -(-PADDED[0] // s), -(-PADDED[1] // s), requires_grad=True)
        for s in (8, 16, 32, 64, 128)
    )


def metas() -> list[dict]:
    """What is known of each image."""
    return [
        dict(
            img_shape=size,
            ori_shape=original,
            batch_input_shape=PADDED,
            scale_factor=(size[1] / original[1], size[0] / original[0]),
        )
        for size, original in zip(SIZES, ORIGINAL_SIZES)
    ]


def proposals(boxes: Sequence[Box], scores: Sequence[float] | None = None) -> InstanceData:
    """Proposals of one image; scores fall evenly if not given."""
    if scores is None:
        scores = [0.95 - 0.8 * i / max(len(boxes), 1) for i in range(len(boxes))]
    return InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        scores=torch.tensor(scores, dtype=torch.float32),
    )


def samples(boxes: Sequence[Sequence[Box]], labels: Sequence[Sequence[int]]) -> SampleList:
    """Data samples of the two images with these objects."""
    found = []
    for meta, gt in zip(metas(), adapters.to_instances(boxes, labels)):
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = gt
        found.append(sample)
    return found


def head_of(roi_head, x: tuple[Tensor, ...], image: int) -> Head:
    """The network's part of the second stage, for the reference to call."""
    return partial(_forward, roi_head, tuple(level.detach() for level in x), image)


@torch.no_grad()
def _forward(roi_head, x, image: int, stage: int, boxes: list[Box]):
    if not boxes:
        return [], []
    rois = torch.tensor([(image, *box) for box in boxes], dtype=torch.float32)
    args = (x, rois) if hasattr(roi_head.bbox_head, 'fc_cls') else (stage, x, rois)
    found = roi_head._bbox_forward(*args)
    return (found['cls_score'].double().tolist(), found['bbox_pred'].double().tolist())


def to_detections(found: InstanceData) -> list[Detection]:
    """Detections of one image as the reference writes them."""
    return [
        Detection(*row)
        for row in zip(
            found.scores.tolist(), found.labels.tolist(), adapters.to_boxes(found.bboxes)
        )
    ]


def losses_only(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the accuracies."""
    return {name: value for name, value in found.items() if 'loss' in name}


def record_rois(roi_head, monkeypatch) -> InstanceList:
    """RoIs of each coming stage of the cascade, shape (n, 5), as a list."""
    seen = []
    forward = roi_head._bbox_forward

    def spy(stage, x, rois):
        seen.append(rois)
        return forward(stage, x, rois)

    monkeypatch.setattr(roi_head, '_bbox_forward', spy)
    return seen
