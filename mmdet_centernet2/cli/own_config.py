"""The config that ``centernet2 train`` writes: sizes and schedule from the data."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mmengine.config import Config, ConfigDict

from mmdet_centernet2.checkpoint.released import SCHEME
from mmdet_centernet2.checkpoint.zoo import Model, shipped_models
from mmdet_centernet2.cli.own_data import OwnData
from mmdet_centernet2.datasets.palette import distinct_palette
from mmdet_centernet2.utils.errors import PreflightError

CPU_MODEL = 'centernet2_mobilenet-v2_fpn_small'
GPU_MODEL = 'centernet2_r50-caffe_fpn_ms-1x_coco'
#: The quarter of the objects that is smallest is at least so large in the
#: network's input, in pixels: two cells of a stride-16 level.
_SMALL_OBJECT = 40
#: With fewer iterations, training takes fewer and smaller crops, down to this edge in pixels.
_FEW_ITERS, _SMALLEST_CROP = 150, 224
_MOSAIC = "dict(type='CachedMosaic', img_scale=(crop, crop), max_cached_images=40, prob=0.5),"


@dataclass(frozen=True)
class Plan:
    """How to train on some data.

    Attributes:
        model: Name of a shipped config to inherit.
        size: Longer image edge in testing, in pixels.
        crop: Edge of the square that is trained on, in pixels.
        batch: Images an iteration.
        iters: Iterations.
        mosaic: Whether four images are joined into one, for data sets of few images.
        from_above: Whether images are turned by quarters, too.
        workers: Processes that load images.
        evaluations: Number of evaluations while training.
    """

    model: str
    size: int
    crop: int
    batch: int
    iters: int
    mosaic: bool
    from_above: bool
    workers: int
    evaluations: int = 10

    @property
    def interval(self) -> int:
        """Iterations between two evaluations."""
        return max(self.iters // self.evaluations, 1)


def make_plan(
    data: OwnData,
    gpu: bool,
    model: str | None = None,
    epochs: float | None = None,
    from_above: bool = False,
) -> Plan:
    """Choose sizes and schedule.

    Args:
        data: What is trained on.
        gpu: Whether there is one.
        model: Name of a config for COCO; by default a small network on a
            CPU, ResNet-50 on a GPU.
        epochs: Passes over the images; by default fewer for larger data sets.
        from_above: Whether no side of an image is up.

    Raises:
        PreflightError: If there is no such model.
    """
    models = [CPU_MODEL, *_zoo()]
    model = model or (GPU_MODEL if gpu else CPU_MODEL)
    if model not in models:
        raise PreflightError(f'--model {model}: give one of {", ".join(models)}.')
    longest, largest = data.longest, 1333 if gpu else 800
    wanted = longest * min(_SMALL_OBJECT / max(np.percentile(data.sides, 25), 1), 2)
    size = _round(min(max(wanted, 320), largest))
    crop = _round(min(size, 1024 if gpu else 512))
    batch = min(8 if gpu else 4, data.train.images)
    if epochs is None:  # 100 for a hundred images, 12 for ten thousand and more
        epochs = min(max(1000 / data.train.images**0.5, 12), 300)
    return Plan(
        model=model,
        size=size,
        crop=crop,
        batch=batch,
        iters=max(round(epochs * data.train.images / batch), 20),
        mosaic=data.train.images < 500,
        from_above=from_above,
        workers=4 if gpu else 0,
    )


def fit_time(plan: Plan, seconds: float, pace: float, evaluation: float) -> Plan:
    """Shorten or stretch a plan to a time.

    Where only few iterations would fit, they get fewer images and smaller crops.

    Args:
        plan: The plan.
        seconds: For training and all evaluations.
        pace: Seconds of an iteration.
        evaluation: Seconds of one evaluation.
    """
    # a fifth of the time for evaluations, two of them at least
    evaluations = int(min(max(seconds / 5 / evaluation - 1, 2), plan.evaluations))
    left = seconds - (evaluations + 1) * evaluation
    batch, crop = plan.batch, plan.crop
    while left / pace < _FEW_ITERS and (batch > 2 or crop > _SMALLEST_CROP):
        smaller = (2, crop) if batch > 2 else (batch, crop - 32)
        pace *= smaller[0] / batch * (smaller[1] / crop) ** 2
        batch, crop = smaller
    iters = max(int(left / pace), 20)
    return replace(plan, batch=batch, crop=crop, iters=iters, evaluations=evaluations)


def _zoo() -> dict[str, Model]:
    """The two-stage models for COCO by the names of their configs, without self-training."""
    pattern = re.compile(r'centernet2.*(?<!-st)_coco')
    return {each.name: each for each in shipped_models() if pattern.fullmatch(each.name)}


def _levels(head: ConfigDict, extents: np.ndarray) -> str:
    """The share of the boxes on each level; of widths and heights (n, 2) in its input."""
    half = np.hypot(*extents.T) / 2
    shares = [np.mean((half >= low) & (half <= high)) for low, high in head.regress_ranges]
    return ', '.join(f'{stride}: {share:.0%}' for stride, share in zip(head.strides, shares))


def _round(pixels: float) -> int:
    """To the nearest multiple of 32, which no level has to pad."""
    return max(round(pixels / 32), 1) * 32


def write_config(path: Path, data: OwnData, plan: Plan, source: str | Path) -> None:
    """Write a config of MMDetection that trains on the data by the plan.

    Args:
        path: The file; its folder exists.
        data: What is trained on.
        plan: How.
        source: What the user named, for the first line.
    """
    train, val, longest = data.train, data.val, data.longest
    zoo = _zoo()
    base = Config.fromfile(zoo[GPU_MODEL].config.with_name(f'{plan.model}.py'))
    levels = _levels(base.model.rpn_head, data.extents * plan.size / longest)
    loader = f'num_workers={plan.workers}, persistent_workers={plan.workers > 0}'
    mosaic = f'{_MOSAIC}\n    *random_crop,\n    ' if plan.mosaic else ''
    turns = " dict(type='RandomQuarterTurns')," if plan.from_above else ''
    warmup = max(plan.iters // 15, 1)
    evaluation = f'interval={plan.interval}, max_keep_ckpts=1'
    text = f"""\
# {data.kind} data {Path(source).name}, by `centernet2 train`; edit it as you like.
_base_ = 'mmdet_centernet2::centernet2/{plan.model}.py'
# -----data: {train.images} images to train on, {val.images} held out-----
classes = {data.classes!r}
metainfo = dict(classes=classes, palette={distinct_palette(len(data.classes))!r})
train_data = dict(data_root='', ann_file={str(train.ann_file)!r},
                  data_prefix=dict(img={str(train.img_dir)!r}), metainfo=metainfo)
val_data = dict(data_root='', ann_file={str(val.ann_file)!r},
                data_prefix=dict(img={str(val.img_dir)!r}), metainfo=metainfo)
size, crop = {plan.size}, {plan.crop}  # the median object has {np.median(data.sides):.0f} of {longest:.0f} px
# objects by stride of the level, some on two: {levels}
random_crop = [
    dict(type='RandomCrop', crop_size=(crop, crop), allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), keep_empty=False)]
train_pipeline = [_base_.load_image, _base_.load_boxes,
    dict(type='RandomResize', scale=(size, size), ratio_range=(0.7, 1.5), keep_ratio=True),
    *random_crop,
    {mosaic}dict(type='YOLOXHSVRandomAug', hue_delta=12, saturation_delta=60, value_delta=60),
    dict(type='RandomGrayscale', prob=0.15, keep_channels=True), dict(type='RandomFlip', prob=0.5),
   {turns} dict(type='Pad', size=(crop, crop), pad_val=dict(img=(114, 114, 114))),
    dict(type='PackDetInputs')]
test_pipeline = [_base_.load_image, dict(_base_.resize, scale=(size, size)), *_base_.load_and_pack]
train_dataloader = dict(batch_size={plan.batch}, {loader}, batch_sampler=None,
    dataset=dict(filter_cfg=None, pipeline=train_pipeline, **train_data))
val_dataloader = test_dataloader = dict({loader},
    dataset=dict(pipeline=test_pipeline, **val_data))
val_evaluator = test_evaluator = dict(ann_file={str(val.ann_file)!r})
# -----model and schedule: {plan.iters * plan.batch / train.images:.0f} epochs-----
model = dict(roi_head=dict(bbox_head=dict(num_classes={len(data.classes)})))
train_cfg = dict(max_iters={plan.iters}, val_interval={plan.interval})
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end={warmup}),
    dict(type='CosineAnnealingLR', by_epoch=False, begin={warmup}, end={plan.iters}, eta_min_ratio=0.01)]
default_hooks = dict(checkpoint=dict({evaluation}, save_best='coco/bbox_mAP'))
custom_hooks = [*_base_.custom_hooks, dict(type='EarlyStoppingHook', rule='greater',
    monitor='coco/bbox_mAP', min_delta=0.001, patience=5)]
"""  # noqa: E501
    if 'auto_scale_lr' in base:
        lr = base.optim_wrapper.optimizer.lr * plan.batch / base.auto_scale_lr.base_batch_size
        text += f'optim_wrapper = dict(optimizer=dict(lr={lr:g}))\n'
    if plan.model in zoo and zoo[plan.model].drive_id:
        text += f"load_from = '{SCHEME}{zoo[plan.model].original}'  # weights of COCO\n"
    path.write_text(text)
