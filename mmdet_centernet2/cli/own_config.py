"""The config that ``centernet2 train`` writes: sizes and schedule from the data."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mmengine.config import Config, ConfigDict

from mmdet_centernet2.checkpoint.zoo import SCHEME, Model, shipped_models
from mmdet_centernet2.cli.own_data import OwnData
from mmdet_centernet2.cli.report import render
from mmdet_centernet2.datasets.palette import distinct_palette
from mmdet_centernet2.utils.errors import PreflightError

CPU_MODEL = 'centernet2_mobilenet-v2_fpn_small'
GPU_MODEL = 'centernet2_r50-caffe_fpn_ms-1x_coco'
#: The quarter of the objects that is smallest is at least so large in the
#: network's input, in pixels: two cells of a stride-16 level.
_SMALL_OBJECT = 40
#: With fewer iterations, training takes fewer and smaller crops, down to this edge in pixels.
_FEW_ITERS, _SMALLEST_CROP = 150, 224


@dataclass(frozen=True)
class Plan:
    """How to train on some data."""

    model: str  # name of a shipped config to inherit
    size: int  # longer image edge in testing, in pixels
    crop: int  # edge of the square that is trained on, in pixels
    batch: int
    iters: int
    mosaic: bool  # join four images into one, for data sets of few images
    from_above: bool  # turn images by quarters, too
    workers: int  # processes that load images
    evaluations: int = 10  # while training


def make_plan(
    data: OwnData,
    gpu: bool,
    model: str | None = None,
    epochs: float | None = None,
    from_above: bool = False,
) -> Plan:
    """Choose the model, sizes and schedule where they are not given.

    ``model`` names a config for COCO; ``from_above`` is for images without an upper side.
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
    """Shorten or stretch a plan to a time for training and all evaluations.

    Where only few iterations would fit, they get fewer images and smaller crops.
    ``pace`` and ``evaluation`` are the seconds of an iteration and of an evaluation.
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
    """Write a config of MMDetection that trains on the data, ``source``, by the plan."""
    zoo = _zoo()
    base = Config.fromfile(zoo[GPU_MODEL].config.with_name(f'{plan.model}.py'))
    lr = None
    if 'auto_scale_lr' in base:
        lr = base.optim_wrapper.optimizer.lr * plan.batch / base.auto_scale_lr.base_batch_size
    has_weights = plan.model in zoo and zoo[plan.model].drive_id
    render(
        path,
        'config.py.jinja',
        data=data,
        plan=plan,
        source=Path(source).name,
        interval=plan.iters // plan.evaluations,
        warmup=max(plan.iters // 15, 2),  # LinearLR over one iteration would stay at its start
        palette=distinct_palette(len(data.classes)),
        median=np.median(data.sides),
        levels=_levels(base.model.rpn_head, data.extents * plan.size / data.longest),
        lr=lr,
        load_from=f'{SCHEME}{zoo[plan.model].original}' if has_weights else None,
    )
