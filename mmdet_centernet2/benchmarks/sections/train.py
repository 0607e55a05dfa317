"""Training steps of whole detectors."""
from __future__ import annotations

from typing import List

from torch import nn

from mmdet_centernet2.benchmarks.detectors import (CASCADE, OURS, UPDATE,
                                                   build)
from mmdet_centernet2.benchmarks.section import Context, Plot, Row, Section
from mmdet_centernet2.benchmarks.training import TrainingStep, rois_per_stage

FEW = 7
SIZE, QUICK_SIZE = (640, 640), (256, 256)
GROWTH = 'against the number of objects'


def _model(context: Context, name: str) -> nn.Module:
    context.say(f'building {name}')
    return build(name, small=context.quick)


def _step(context: Context, model: nn.Module,
          num_objects: int = FEW) -> TrainingStep:
    return TrainingStep(model, context.pick(SIZE, QUICK_SIZE), num_objects)


def peers(context: Context) -> List[Row]:
    """Eager FP32 steps of ours and of mmdet's detectors."""
    steps = {
        name: _step(context, _model(context, name))
        for name in (CASCADE, OURS, UPDATE)
    }
    rois = {
        name: ' + '.join(map(str, rois_per_stage(step)))
        for name, step in steps.items()
    }
    rows = context.compare(f'{FEW} objects, FP32', steps, memory=True)
    for row in rows:
        row.numbers['RoIs trained on'] = rois[row.contestant]
    return rows


def growth(context: Context) -> List[Row]:
    """How a step's time grows with the objects in the image."""
    rows = []
    models = {name: _model(context, name) for name in (CASCADE, OURS)}
    for num in context.pick((7, 30, 100, 300, 1000, 2000), (7, 300)):
        steps = {
            name: _step(context, model, num)
            for name, model in models.items()
        }
        rows += context.compare(
            f'{num} objects, FP32, {GROWTH}', steps,
            rounds=min(context.rounds, 2), numbers=dict(objects=num))
    return rows


def run(context: Context) -> List[Row]:
    """All of it."""
    return peers(context) + growth(context)


SECTION = Section(
    'train',
    'One training step at 640 x 640, batch 1: forward, losses, backward and '
    'SGD with momentum.',
    run,
    plots=(Plot('speed_training.png', 'Training step, 640 x 640, batch 1',
                'objects', only=lambda row: row.work.endswith(GROWTH)), ))
