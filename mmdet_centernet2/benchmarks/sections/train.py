"""Training steps of whole detectors."""
from __future__ import annotations

from typing import Callable, List

import torch
from torch import nn

from mmdet_centernet2.benchmarks.detectors import (CASCADE, OURS, UPDATE,
                                                   build)
from mmdet_centernet2.benchmarks.environment import cpu_flags
from mmdet_centernet2.benchmarks.section import Context, Plot, Row, Section
from mmdet_centernet2.benchmarks.training import (TrainingStep, compile_parts,
                                                  rois_per_stage)
from mmdet_centernet2.benchmarks.workers import Worker
from mmdet_centernet2.engine.cpu_speed import (keep_freed_memory,
                                               use_channels_last)

FEW = 7
GROWTH = 'against the number of objects'


def _model(context: Context, name: str, **options) -> nn.Module:
    context.say(f'building {name}')
    return build(name, small=context.quick, model_options=options)


def _step(context: Context, model: nn.Module, num_objects: int = FEW,
          amp: torch.dtype | None = None) -> TrainingStep:
    size = context.pick((640, 640), (256, 256))
    return TrainingStep(model, size, num_objects, amp=amp)


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


def variants(context: Context) -> List[Row]:
    """What makes a step of ours cheaper, each alone and in a process."""
    calls = {'eager, FP32': _variant(context)}
    calls.update({
        'channels-last, freed memory kept (CPUSpeedHook)': _variant(
            context, prepare=_as_the_hook_does),
        'AMP bfloat16': _variant(context, amp=torch.bfloat16),
        'AMP bfloat16, CPUSpeedHook': _variant(
            context, amp=torch.bfloat16, prepare=_as_the_hook_does),
        'activation checkpointing in the backbone': _variant(
            context, options=dict(backbone=dict(with_cp=True))),
    })
    if any('fp16' in flag for flag in cpu_flags()):  # else emulated
        calls['AMP float16'] = _variant(context, amp=torch.float16)
    if not context.quick:  # it takes a minute
        calls['torch.compile'] = _variant(context, prepare=compile_parts)
    try:
        rows = context.compare(f'{OURS}, {FEW} objects', calls, memory=True)
        for row in rows:
            context.say(f'loss of {row.contestant}')
            row.numbers['loss'] = calls[row.contestant]()
        return rows
    finally:
        for call in calls.values():
            call.stop()


def _variant(context: Context,
             amp: torch.dtype | None = None,
             prepare: Callable[[nn.Module], object] = lambda model: None,
             options: dict = {}) -> Worker:
    """A step of ours in a process of its own; its call returns the loss."""

    def make() -> Callable[[], float]:
        model = build(OURS, small=context.quick, model_options=options)
        prepare(model)
        step = _step(context, model, amp=amp)
        return _Loss(step)

    return Worker(make)


class _Loss:
    """A step whose loss can be sent."""

    def __init__(self, step: TrainingStep) -> None:
        self.step = step
        self.release = step.release

    def __call__(self) -> float:
        return self.step().item()


def _as_the_hook_does(model: nn.Module) -> None:
    keep_freed_memory()
    use_channels_last(model)


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
    parts = variants, peers, growth  # workers first
    return [row for part in parts for row in part(context)]


SECTION = Section(
    'train',
    'One training step at 640 x 640, batch 1: forward, losses, backward and '
    'SGD with momentum.',
    run,
    plots=(Plot('speed_training.png', 'Training step, 640 x 640, batch 1',
                'objects', only=lambda row: row.work.endswith(GROWTH)), ))
