"""Detectors with random weights that have the work of trained ones.

What a detector costs depends on its weights in four ways, and here all four
are made alike for every detector: activations have the size that
normalisation gives them, every first stage gives as many proposals as its
test config allows, proposals are eight cells wide (mmdet's anchors are, and
CenterNet2's levels are trained on such objects), and equally many scores
reach the last suppression.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import mmdet
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from mmdet_centernet2.models.dense_heads import CenterNet2ProposalHead

from .scenes import Size, image_batch

ROOT = Path(__file__).resolve().parents[3]
OURS = 'CenterNet2'
CASCADE = 'mmdet Cascade R-CNN'
FASTER = 'mmdet Faster R-CNN'
UPDATE = 'mmdet CenterNet-update'

#: Configs by what they are called; peers have the same ResNet-50.
CONFIGS = {
    CASCADE: 'cascade_rcnn/cascade-rcnn_r50-caffe_fpn_1x_coco.py',
    OURS: 'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py',
    FASTER: 'faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco.py',
    UPDATE: 'centernet/centernet-update_r50-caffe_fpn_ms-1x_coco.py',
}
FEW_PROPOSALS = 60  #: Of small detectors.
PAIRS_AT_NMS = 300  #: Of box and class that the score threshold lets through.
CALIBRATION_SIZE = (192, 192)  #: Of the image that weights are adapted to.
LTRB_BIAS = 4.0  #: In stride units: proposals are eight cells wide.
LOGIT_STD = 1.5  #: Of class logits, about a trained model's.
LEARNING_RATE = 1e-6  #: So small that the weights stay, and with them the work.


def build(name: str, device: str = 'cpu', small: bool = False) -> nn.Module:
    """Build one of ``CONFIGS`` and give its weights the usual work.

    They are the same in every run. ``small`` is for trying out: ResNet-18,
    narrow box heads and few proposals.
    """
    register_all_modules(init_default_scope=True)
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
    model.backbone.depth = 18
    model.neck.in_channels = [channels // 4 for channels in model.neck.in_channels]
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
    images, samples = image_batch(CALIBRATION_SIZE, device=device)
    _calibrate_norms(model, images)
    _spread_logits(model, images, samples)
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
def _calibrate_norms(model: nn.Module, images: Tensor) -> None:
    """Let batch norms know the statistics of what they get."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:  # with mean 0 and variance 1 every block doubles
        norm.train()
        norm.momentum = 1.0
    model.extract_feat(images)
    for norm in norms:
        norm.eval()
        norm.momentum = 0.1  # torch's default


@torch.no_grad()
def _spread_logits(model: nn.Module, images: Tensor, samples: list[DetDataSample]) -> None:
    """Let box heads be as sure as trained ones, not undecided."""
    heads = box_heads(model)
    with _watch([head.fc_cls for head in heads]) as seen:
        if heads:
            model.predict(images, samples, rescale=False)
    for head, (_, logits) in zip(heads, seen):
        head.fc_cls.weight *= LOGIT_STD / logits.std()


@contextmanager
def _watch(modules: list[nn.Module]) -> Iterator[list[tuple]]:
    """First input and output of each call of some modules."""
    seen: list[tuple] = []

    def note(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        seen.append((inputs[0], output))

    hooks = [module.register_forward_hook(note) for module in modules]
    yield seen
    for hook in hooks:
        hook.remove()


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


class Prediction:
    """Inference of one of ``CONFIGS`` on a batch; each call is one."""

    def __init__(
        self,
        name: str,
        size: Size,
        batch: int = 1,
        device: str = 'cpu',
        small: bool = False,
        amp: torch.dtype | None = None,
    ) -> None:
        self.model = build(name, device, small)
        self.images, self.samples = image_batch(size, batch, device=device)
        set_score_threshold(self.model, self.images, self.samples)
        self.autocast = torch.autocast(device, amp, enabled=amp is not None)

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


class TrainingStep:
    """Loss, backward pass and an SGD step on one batch; each call is one."""

    def __init__(
        self,
        model: nn.Module,
        size: Size,
        num_objects: int,
        batch: int = 1,
        device: str = 'cpu',
        amp: torch.dtype | None = None,
    ) -> None:
        self.model = model.train()
        self.images, self.samples = image_batch(size, batch, num_objects, device)
        self.autocast = torch.autocast(device, amp, enabled=amp is not None)
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trained, LEARNING_RATE, 0.9, weight_decay=1e-4)
        # float16 needs it, bfloat16 does not
        self.scaler = torch.amp.GradScaler(device, enabled=amp == torch.float16)

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
        # every box head has the layer, and calls it once
        with _watch([head.shared_fcs[0] for head in box_heads(self.model)]) as seen:
            self()
        return [len(features) for features, _ in seen]
