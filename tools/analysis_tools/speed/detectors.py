"""Detectors with random weights that have the work of trained ones.

Which four things are made alike for all of them: docs/speed.md.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mmdet
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from mmdet_centernet2.models.dense_heads import CenterNet2ProposalHead

from .scenes import Size, image_batch

ROOT = Path(__file__).resolve().parents[3]
OURS = 'CenterNet2'
CASCADE = 'mmdet Cascade R-CNN'
UPDATE = 'mmdet CenterNet-update'

CONFIGS = {  # peers have the same ResNet-50
    CASCADE: 'cascade_rcnn/cascade-rcnn_r50-caffe_fpn_1x_coco.py',
    OURS: 'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py',
    'mmdet Faster R-CNN': 'faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco.py',
    UPDATE: 'centernet/centernet-update_r50-caffe_fpn_ms-1x_coco.py',
}
FEW_PROPOSALS = 16  #: Of small detectors.
PAIRS_AT_NMS = 300  #: Of box and class that the score threshold lets through.
CALIBRATION_SIZE = (192, 192)  #: Of the image that weights are adapted to.
LTRB_BIAS = 4.0  #: In strides: proposals are eight cells wide, as mmdet's anchors are.
LOGIT_STD = 1.5  #: Of class logits, about a trained model's.
LEARNING_RATE = 1e-6  #: So small that the weights stay, and with them the work.


def build(name: str, device: str = 'cpu', small: bool = False) -> nn.Module:
    """Build one of ``CONFIGS`` and give its weights the usual work.

    ``small`` is for trying out: few channels, few proposals.
    """
    # not by "mmdet::", for which mmengine reads all metafiles
    folder = ROOT if name == OURS else Path(mmdet.__file__).with_name('.mim')
    cfg = Config.fromfile(folder / 'configs' / CONFIGS[name])
    if small:
        _shrink(cfg.model)
    model = build_from(cfg, device)
    if name != OURS and device == 'cpu':
        _pool_in_float32(model)
    return model


def _shrink(model: ConfigDict) -> None:
    model.backbone.update(depth=18, base_channels=16)
    model.neck.in_channels = [channels // 16 for channels in model.neck.in_channels]
    if 'roi_head' in model:
        for head in _listed(model.roi_head.bbox_head):
            head.fc_out_channels = 64
        for rpn in (model.test_cfg.rpn, model.train_cfg.rpn_proposal):
            rpn.max_per_img = FEW_PROPOSALS
        for stage in _listed(model.train_cfg.rcnn):
            stage.sampler.num = FEW_PROPOSALS


def _listed(parts: object) -> list:
    """Of one part or several, as configs and modules have them."""
    return list(parts) if isinstance(parts, list | nn.ModuleList) else [parts]


def build_from(cfg: Config, device: str = 'cpu') -> nn.Module:
    """Build the model of a config and give its weights the usual work."""
    # it lists every parameter that is initialised
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model = model.to(device).eval()
    if isinstance(getattr(model, 'rpn_head', None), CenterNet2ProposalHead):
        nn.init.constant_(model.rpn_head.conv_reg.bias, LTRB_BIAS)
    _adapt(model, *image_batch(CALIBRATION_SIZE, device=device))
    return model


def _pool_in_float32(model: nn.Module) -> None:
    """Let mmdet's detectors run in bfloat16: mmcv's CPU operators cannot."""
    to_float = partial(tree_map_only, Tensor, Tensor.float)
    if hasattr(model, 'roi_head'):
        for extractor in _listed(model.roi_head.bbox_roi_extractor):
            extractor.register_forward_pre_hook(lambda module, inputs: to_float(inputs))
    head = getattr(model, 'rpn_head', None) or model.bbox_head
    head.register_forward_hook(lambda module, inputs, outputs: to_float(outputs))


@torch.no_grad()
def _adapt(model: nn.Module, images: Tensor, samples: list[DetDataSample]) -> None:
    """Let batch norms know what they get, and box heads be as sure as trained ones."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:  # with mean 0 and variance 1 every block doubles
        norm.train().momentum = 1.0
    model.extract_feat(images)
    for norm in norms:
        norm.eval().momentum = 0.1  # torch's default

    def spread(layer: nn.Linear, inputs: tuple, logits: Tensor) -> None:
        layer.weight *= LOGIT_STD / logits.std()

    with ExitStack() as hooks:
        for head in box_heads(model):
            hooks.enter_context(head.fc_cls.register_forward_hook(spread))
        model.predict(images, samples, rescale=False)


def box_heads(model: nn.Module) -> list[nn.Module]:
    """Of the second stage, if there is one."""
    return _listed(model.roi_head.bbox_head) if hasattr(model, 'roi_head') else []


@torch.no_grad()
def set_score_threshold(model: nn.Module, images: Tensor, samples: list[DetDataSample]) -> None:
    """Let ``PAIRS_AT_NMS`` pairs an image reach the last suppression."""
    # the head's own: the model's is a copy
    last = model.roi_head if hasattr(model, 'roi_head') else model.bbox_head
    cfg = last.test_cfg
    usual = {key: cfg[key] for key in ('nms', 'max_per_img')}
    cfg.update(score_thr=0.0, max_per_img=-1, nms=dict(type='nms', iou_threshold=1.0))
    found = model.predict(images, samples, rescale=False)
    scores = torch.cat([sample.pred_instances.scores for sample in found])
    pairs = min(PAIRS_AT_NMS * len(images), len(scores) - 1)
    cfg.update(score_thr=scores.sort(descending=True).values[pairs].item(), **usual)


@dataclass
class Work:
    """A detector, and the batch that it works on in each call."""

    model: nn.Module
    size: Size
    num_objects: int = 0
    batch: int = 1
    device: str = 'cpu'
    amp: torch.dtype | None = None

    def __post_init__(self) -> None:
        batch = self.size, self.batch, self.num_objects, self.device
        self.images, self.samples = image_batch(*batch)
        self.autocast = torch.autocast(self.device, self.amp, enabled=self.amp is not None)


class Prediction(Work):
    """Each call is an inference."""

    def __post_init__(self) -> None:
        super().__post_init__()
        set_score_threshold(self.model, self.images, self.samples)

    def __call__(self) -> int:
        """Number of detections."""
        with torch.no_grad(), self.autocast:
            found = self.model.predict(self.images, self.samples, rescale=False)
        return sum(len(sample.pred_instances) for sample in found)

    def work(self) -> dict[str, int]:
        """What one call does, all images together."""
        detections, proposals = self(), 0
        if getattr(self.model, 'with_rpn', False):
            with torch.no_grad(), self.autocast:
                features = self.model.extract_feat(self.images)
                found = self.model.rpn_head.predict(features, self.samples, rescale=False)
            proposals = sum(map(len, found))
        return dict(proposals=proposals, detections=detections)


class TrainingStep(Work):
    """Each call is loss, backward pass and an SGD step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        trained = [p for p in self.model.train().parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, LEARNING_RATE, 0.9, weight_decay=1e-4)
        # float16 needs it, bfloat16 does not
        self.scaler = torch.amp.GradScaler(self.device, enabled=self.amp == torch.float16)

    def __call__(self) -> float:
        """The total loss."""
        with self.autocast:
            losses = self.model.loss(self.images, self.samples)
        loss, _ = self.model.parse_losses(losses)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.item()

    def release(self) -> None:
        """Drop the gradients, which a step holds until the next one."""
        self.optimizer.zero_grad()

    def rois(self) -> list[int]:
        """RoIs that each box head is trained on in a step; takes one."""
        counts: list[int] = []

        def count(layer: nn.Linear, inputs: tuple[Tensor]) -> None:
            counts.append(len(inputs[0]))

        with ExitStack() as hooks:
            for head in box_heads(self.model):  # every one calls the layer once
                hooks.enter_context(head.shared_fcs[0].register_forward_pre_hook(count))
            self()
        return counts
