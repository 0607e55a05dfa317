"""The config that ``centernet2 train`` writes: sizes and schedule from the data."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmdet_centernet2.cli.own_data import OwnData
from mmdet_centernet2.datasets.palette import distinct_palette

CPU_MODEL = 'centernet2_mobilenet-v2_fpn_small'
GPU_MODEL = 'centernet2_r50-caffe_fpn_ms-1x_coco'
#: The quarter of the objects that is smallest is at least so large in the
#: network's input, in pixels: two cells of a stride-16 level.
_SMALL_OBJECT = 40
_EVALUATIONS = 10


@dataclass(frozen=True)
class Plan:
    """How to train on some data.

    Attributes:
        model: Name of a shipped config to inherit.
        size: Longer image edge in testing, in pixels.
        crop: Edge of the square that is trained on, in pixels.
        batch: Images an iteration.
        iters: Iterations.
        lr: Learning rate; None for the inherited config's, in proportion to the batch.
        mosaic: Whether four images are joined into one, for data sets of few images.
        workers: Processes that load images.
        why: What ``size`` was taken from, in words.
    """

    model: str
    size: int
    crop: int
    batch: int
    iters: int
    mosaic: bool
    workers: int
    why: str

    @property
    def interval(self) -> int:
        """Iterations between two evaluations."""
        return max(self.iters // _EVALUATIONS, 1)


def make_plan(
    data: OwnData, gpu: bool, model: str | None = None, epochs: float | None = None
) -> Plan:
    """Choose sizes and schedule.

    Args:
        data: What is trained on.
        gpu: Whether there is one.
        model: Name of a shipped config; by default a small network on a CPU,
            ResNet-50 on a GPU.
        epochs: Passes over the images; by default fewer for larger data sets.
    """
    sides, longest = _object_sizes(data)
    largest = 1333 if gpu else 800
    wanted = longest * min(_SMALL_OBJECT / max(np.percentile(sides, 25), 1), 2)
    size = _round(min(max(wanted, 320), largest))
    crop = _round(min(size, 1024 if gpu else 512))
    batch = min(8 if gpu else 4, data.train.images)
    if epochs is None:  # 100 for a hundred images, 12 for ten thousand and more
        epochs = min(max(1000 / data.train.images**0.5, 12), 300)
    return Plan(
        model=model or (GPU_MODEL if gpu else CPU_MODEL),
        size=size,
        crop=crop,
        batch=batch,
        iters=max(round(epochs * data.train.images / batch), 20),
        mosaic=data.train.images < 500,
        workers=4 if gpu else 0,
        why=f'the median object has {np.median(sides):.0f} of {longest:.0f} px',
    )


def fit_time(plan: Plan, seconds: float, pace: float, evaluation: float) -> Plan:
    """Shorten or stretch a plan to a time.

    Args:
        plan: The plan.
        seconds: For training and all evaluations.
        pace: Seconds of an iteration.
        evaluation: Seconds of one evaluation.
    """
    left = max(seconds - (_EVALUATIONS + 1) * evaluation, seconds / 2)
    return replace(plan, iters=max(int(left / pace), 20))


def _object_sizes(data: OwnData) -> tuple[np.ndarray, float]:
    """Square roots of the boxes' areas, and the median longer image edge, in pixels."""
    content = json.loads(data.train.ann_file.read_bytes())
    boxes = np.array([ann['bbox'] for ann in content['annotations']], dtype=float).reshape(-1, 4)
    edges = [max(image['width'], image['height']) for image in content['images']]
    return np.sqrt(boxes[:, 2:].prod(1).clip(0)), float(np.median(edges))


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
    mosaic = (
        "    dict(type='CachedMosaic', img_scale=(crop, crop), pad_val=114, max_cached_images=40, "
        'prob=0.5),\n    *random_crop,\n'
        if plan.mosaic
        else ''
    )
    weights = "load_from = 'centernet2://CenterNet2_R50_1x'\n" if plan.model == GPU_MODEL else ''
    epochs = plan.iters * plan.batch / data.train.images
    path.write_text(
        f"""\
# CenterNet2 on {Path(source).name} ({data.kind}), written by `centernet2 train`. It is a config of \
MMDetection
# like any other: edit it and run `centernet2 train` again, or give it to any of mmdet's tools.
_base_ = 'mmdet_centernet2::centernet2/{plan.model}.py'

# -----data: {data.train.images} images to train on, {data.val.images} held out-----
classes = {data.classes!r}
metainfo = dict(classes=classes, palette={distinct_palette(len(data.classes))!r})
# {plan.why}; so images are resized to
size, crop = {plan.size}, {plan.crop}
random_crop = [
    dict(type='RandomCrop', crop_size=(crop, crop), allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), keep_empty=False)]
train_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(type='RandomResize', scale=(size, size), ratio_range=(0.7, 1.5), keep_ratio=True),
    *random_crop,
{mosaic}\
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=(crop, crop), pad_val=dict(img=(114, 114, 114))),
    dict(type='PackDetInputs')]
test_pipeline = [_base_.load_image, dict(_base_.resize, scale=(size, size)), *_base_.load_and_pack]
train_dataloader = dict(batch_size={plan.batch}, num_workers={plan.workers}, \
persistent_workers={plan.workers > 0}, batch_sampler=None, dataset=dict(
    data_root='', ann_file={str(data.train.ann_file)!r},
    data_prefix=dict(img={str(data.train.img_dir)!r}), metainfo=metainfo, filter_cfg=None, \
pipeline=train_pipeline))
val_dataloader = test_dataloader = dict(num_workers={plan.workers}, \
persistent_workers={plan.workers > 0}, dataset=dict(
    data_root='', ann_file={str(data.val.ann_file)!r},
    data_prefix=dict(img={str(data.val.img_dir)!r}), metainfo=metainfo, pipeline=test_pipeline))
val_evaluator = test_evaluator = dict(ann_file={str(data.val.ann_file)!r})

# -----model and schedule: {plan.iters} iterations of {plan.batch} images, {epochs:.0f} epochs-----
model = dict(roi_head=dict(bbox_head=dict(num_classes={len(data.classes)})))
{weights}\
train_cfg = dict(max_iters={plan.iters}, val_interval={plan.interval})
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end={max(plan.iters // 15, 1)}),
    dict(type='CosineAnnealingLR', by_epoch=False, begin={max(plan.iters // 15, 1)}, end={plan.iters}, \
eta_min_ratio=0.01)]
default_hooks = dict(checkpoint=dict(interval={plan.interval}, max_keep_ckpts=1, \
save_best='coco/bbox_mAP'))
"""
    )
