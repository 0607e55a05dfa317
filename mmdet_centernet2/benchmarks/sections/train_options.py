"""Options that make training steps cheaper."""
from __future__ import annotations

from typing import Callable, Dict, List

import torch
from torch import nn

from mmdet_centernet2.benchmarks.detectors import OURS, build
from mmdet_centernet2.benchmarks.environment import cpu_flags
from mmdet_centernet2.benchmarks.section import Context, Row, Section
from mmdet_centernet2.benchmarks.sections.train import FEW, QUICK_SIZE, SIZE
from mmdet_centernet2.benchmarks.training import TrainingStep, compile_parts
from mmdet_centernet2.benchmarks.workers import Worker, drop_failures
from mmdet_centernet2.engine.cpu_speed import (keep_freed_memory,
                                               use_channels_last)


def run(context: Context) -> List[Row]:
    """All options, in turn."""
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
        return _compare(context, calls)
    finally:
        for call in calls.values():
            call.stop()


def _compare(context: Context, calls: Dict[str, Worker]) -> List[Row]:
    work = f'{OURS}, {FEW} objects'
    failures = drop_failures(calls, context.say)
    rows = context.compare(work, calls, memory=True)
    for row in rows:
        context.say(f'loss of {row.contestant}')
        row.numbers['loss'] = calls[row.contestant]()
    return rows + [
        Row(work, name, numbers=dict(loss=f'failed: {reason}'))
        for name, reason in failures.items()
    ]


def _variant(context: Context,
             amp: torch.dtype | None = None,
             prepare: Callable[[nn.Module], object] = lambda model: None,
             options: dict = {}) -> Worker:
    """A step of ours in a process of its own; its call returns the loss."""

    def make() -> Callable[[], float]:
        model = build(OURS, small=context.quick, model_options=options)
        prepare(model)
        size = context.pick(SIZE, QUICK_SIZE)
        return _Loss(TrainingStep(model, size, FEW, amp=amp))

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


SECTION = Section(
    'train_options',
    'The training step of CenterNet2 at 640 x 640, batch 1, with what makes it '
    'cheaper, each in a process of its own. The loss shows that it is finite; '
    'it differs by the RoIs that are drawn.', run)
