"""Whole detectors: inference, its switches, training steps and options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn

from mmdet_centernet2.engine.hooks.cpu_speed import CPUSpeedHook
from mmdet_centernet2.engine.hooks.fast_inference import MODES, speed_up

from ..detectors import (
    CASCADE,
    CONFIGS,
    OURS,
    UPDATE,
    Prediction,
    TrainingStep,
    build,
    compile_parts,
)
from ..machine import count_operations, fastest_convolution
from ..scenes import QUICK_SIZE, TEST_SIZE
from ..section import Context, Plot, Row, Worker, section, start_workers

FEW = 7
GROWTH = 'against the number of objects'
#: A convolution is repeated until it has this share of the model's arithmetic.
SHARE = 0.25


@section(
    'inference',
    'Whole detectors with a ResNet-50, from the network input to the '
    'detections: batch 1, FP32, eager, as their configs make them. Weights '
    'are random, the work is not: every detector gets the proposals and '
    'detections that the table counts.',
)
def inference(context: Context) -> list[Row]:
    size = context.pick(TEST_SIZE, QUICK_SIZE)
    calls = {name: Prediction(name, size, small=context.quick) for name in CONFIGS}
    rows = context.compare(f'{size[0]} x {size[1]}', calls, memory=True)
    for row in rows:
        row.numbers.update(calls[row.contestant].work())
    return rows


@section(
    'fast',
    'Inference with the switch `--fast`, batch 1, FP32 but where it says '
    'bf16, against mmdet as it comes, each contestant in a process of its '
    "own, and the arithmetic limit: all operations of the model's "
    'convolutions and matrix products at the rate of the fastest 3x3 '
    'convolution, measured in the same turns.',
)
def fast(context: Context) -> list[Row]:
    size = context.pick(TEST_SIZE, QUICK_SIZE)

    def contestant(
        name: str, change: Callable = lambda model: model, compiled: bool = False
    ) -> Prediction:
        predict = Prediction(name, size, small=context.quick)
        change(predict.model)
        if compiled:
            compile_parts(predict.model, options=dict(freezing=True))
        return predict

    makers = {
        CASCADE: partial(contestant, CASCADE),
        f'{OURS}, eager': partial(contestant, OURS),
        f'{OURS}, eager, with the CPUSpeedHook of its config': partial(
            contestant, OURS, CPUSpeedHook().apply
        ),
    }
    for compiled in (False, True) if not context.quick else (False,):
        for mode in MODES:
            name = f'{OURS}, --fast {mode}'
            name += ', torch.compile with freezing' * compiled
            makers[name] = partial(contestant, OURS, partial(speed_up, mode=mode), compiled)
    work = f'{size[0]} x {size[1]}'
    with start_workers(makers) as (workers, failures):
        operations = count_operations(contestant(OURS))
        return _against_limits(context, workers, work, operations) + _failed(work, failures)


def _against_limits(
    context: Context, workers: Mapping[str, Worker], work: str, operations: int
) -> list[Row]:
    calls: dict[str, Callable] = dict(workers)
    machine = {}
    for mode, dtype in MODES.items():
        kernel = fastest_convolution(context, dtype)
        repeats = max(round(SHARE * operations / kernel.operations), 1)
        name = f'convolutions, {dtype}'.replace('torch.', '')
        machine[name] = mode, kernel, repeats * kernel.operations
        calls[name] = partial(_repeat, kernel.call, repeats)
    rows = context.compare(work, calls)
    limits = {}
    for row in rows:
        if row.contestant in machine:
            mode, kernel, done = machine[row.contestant]
            rate = done / row.timing.median
            limits[mode] = operations / rate
            row.work, row.speedup = 'the machine', None
            row.numbers.update({'GFLOP/s': rate / 1e9, 'layer': kernel.name})
    for row in rows:
        if row.contestant.startswith(OURS):
            limit = limits['bf16' if 'bf16' in row.contestant else 'exact']
            row.numbers['arithmetic limit (s)'] = limit
            row.numbers['times the limit'] = row.timing.median / limit
    return rows


@torch.no_grad()
def _repeat(call: Callable, times: int) -> None:
    for _ in range(times):
        call()


def _failed(work: str, failures: dict[str, str]) -> list[Row]:
    return [Row(work, name, numbers=dict(failed=why)) for name, why in failures.items()]


def _step(
    context: Context, model: nn.Module, num_objects: int = FEW, amp: torch.dtype | None = None
) -> TrainingStep:
    size = context.pick((640, 640), (128, 128))
    return TrainingStep(model, size, num_objects, amp=amp)


@section(
    'train',
    'One training step at 640 x 640, batch 1: forward, losses, backward and SGD with momentum.',
    Plot('speed_training.png', 'Training step, 640 x 640, batch 1', 'objects', only=GROWTH),
)
def train(context: Context) -> list[Row]:
    models = {name: build(name, small=context.quick) for name in (CASCADE, OURS, UPDATE)}
    steps = {name: _step(context, model) for name, model in models.items()}
    rows = context.compare(f'{FEW} objects, FP32', steps, memory=True)
    for row in rows:
        rois = steps[row.contestant].rois()
        row.numbers['RoIs trained on'] = ' + '.join(map(str, rois))
    del models[UPDATE], steps
    for num in context.pick((7, 30, 100, 300, 1000, 2000), (7, 300)):
        rows += context.compare(
            f'{num} objects, FP32, {GROWTH}',
            {name: _step(context, model, num) for name, model in models.items()},
            max_rounds=2,
            numbers=dict(objects=num),
        )
    return rows


@section(
    'train_options',
    'The training step of CenterNet2 at 640 x 640, batch 1, with what makes it '
    'cheaper, each in a process of its own. The loss shows that it is finite; '
    'it differs by the RoIs that are drawn.',
)
def train_options(context: Context) -> list[Row]:

    def contestant(
        amp: torch.dtype | None = None, change: Callable = lambda model: model, **options
    ) -> TrainingStep:
        model = build(OURS, small=context.quick, model_options=options)
        change(model)
        return _step(context, model, amp=amp)

    hook, bf16 = CPUSpeedHook().apply, torch.bfloat16
    makers = {
        'eager, FP32': contestant,
        'channels-last, freed memory kept (CPUSpeedHook)': partial(contestant, None, hook),
        'AMP bfloat16': partial(contestant, bf16),
        'AMP bfloat16, CPUSpeedHook': partial(contestant, bf16, hook),
        'activation checkpointing in the backbone': partial(
            contestant, backbone=dict(with_cp=True)
        ),
    }
    if not context.quick:  # it takes a minute
        makers['torch.compile'] = partial(contestant, None, compile_parts)
    work = f'{OURS}, {FEW} objects'
    with start_workers(makers) as (workers, failures):
        rows = context.compare(work, workers, memory=True)
        for row in rows:
            row.numbers['loss'] = workers[row.contestant]()
    return rows + _failed(work, failures)
