"""Whole detectors: inference and training, with the same switch on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial

import torch
from torch import nn

from mmdet_centernet2.engine.hooks.cpu_speed import CPUSpeedHook
from mmdet_centernet2.engine.hooks.fast_inference import MODES, speed_up

from ..detectors import CASCADE, CONFIGS, OURS, UPDATE, Prediction, TrainingStep, build
from ..machine import count_operations, fastest_convolution
from ..scenes import QUICK_SIZE, TEST_SIZE
from ..section import Context, Plot, Row, Worker, section

FEW = 7  #: Objects.
GROWTH = 'against the number of objects'
PAIR = (CASCADE, OURS)
TRAIN_SIZES = (640, 640), (64, 64)  #: Full and quick.
SHARE = 0.25  #: Of the model's arithmetic that the repeated convolution has.

#: Switches of inference and training, by name; each is applied to both detectors.
SWITCHES: dict[str, Callable[[nn.Module], object]] = {
    'eager': lambda model: None,
    'CPUSpeedHook': CPUSpeedHook().apply,
    **{f'--fast {mode}': partial(speed_up, mode=mode) for mode in MODES},
}
OPTIONS: dict[str, tuple[str, torch.dtype | None]] = {
    'CPUSpeedHook': ('CPUSpeedHook', None),
    'AMP bfloat16': ('eager', torch.bfloat16),
    'AMP bfloat16, CPUSpeedHook': ('CPUSpeedHook', torch.bfloat16),
}


@section(
    'inference',
    'Detectors with a ResNet-50, from the network input to the detections: batch 1, FP32, '
    'eager. Weights are random, the work is not: the table counts the proposals and '
    'detections of each.',
)
def inference(context: Context) -> list[Row]:
    size = context.pick(TEST_SIZE, QUICK_SIZE)
    calls = {name: Prediction(build(name, small=context.quick), size) for name in CONFIGS}
    rows = context.compare(f'{size[0]} x {size[1]}', calls, memory=True)
    for row in rows:
        row.numbers.update(calls[row.contestant].work())
    return rows


@section(
    'fast',
    'Inference at batch 1 with each switch on both detectors, FP32 but where it says bf16, '
    'each contestant in a process of its own. *Arithmetic limit*: all operations of the '
    "model's convolutions and matrix products at the rate of the fastest 3x3 convolution, "
    'measured in the same turns.',
)
def fast(context: Context) -> list[Row]:
    size = context.pick(TEST_SIZE, QUICK_SIZE)
    with ExitStack() as stack:
        workers = _workers(_predict, context, SWITCHES, stack)
        operations = count_operations(_predict(context, 'eager', OURS))
        kernels = {dtype: fastest_convolution(context, dtype) for dtype in MODES.values()}
        rows = []
        for switch in SWITCHES:
            kernel = kernels[torch.bfloat16 if 'bf16' in switch else torch.float32]
            repeats = max(round(SHARE * operations / kernel.operations), 1)
            limit = {f'convolution {kernel.name}': partial(_repeat, kernel.call, repeats)}
            found = context.compare(f'{size[0]} x {size[1]}, {switch}', workers[switch] | limit)
            rate = repeats * kernel.operations / found[-1].timing.median
            found[-1].work, found[-1].speedup = f'limit, {switch}', None
            found[-1].numbers['GFLOP/s'] = rate / 1e9
            ours, seconds = found[1], operations / rate
            ours.numbers['arithmetic limit (s)'] = seconds
            ours.numbers['times the limit'] = ours.timing.median / seconds
            rows += found
            for worker in workers[switch].values():
                worker.end()
    return rows


def _predict(context: Context, switch: str, name: str) -> Prediction:
    model = build(name, small=context.quick)
    predict = Prediction(model, context.pick(TEST_SIZE, QUICK_SIZE))
    SWITCHES[switch](model)
    return predict


@torch.no_grad()
def _repeat(call: Callable, times: int) -> None:
    for _ in range(times):
        call()


@section(
    'train',
    'One training step at 640 x 640, batch 1, FP32, eager: forward, losses, backward and '
    'SGD with momentum.',
    Plot('speed_training.png', 'Training step, 640 x 640, batch 1', 'objects', only=GROWTH),
)
def train(context: Context) -> list[Row]:
    models = {name: build(name, small=context.quick) for name in (*PAIR, UPDATE)}
    size = context.pick(*TRAIN_SIZES)
    steps = {name: TrainingStep(model, size, FEW) for name, model in models.items()}
    rows = context.compare(f'{FEW} objects', steps, memory=True)
    for row in rows:
        row.numbers['RoIs trained on'] = ' + '.join(map(str, steps[row.contestant].rois()))
    del models[UPDATE], steps
    for num in context.pick((7, 30, 100, 300, 1000, 2000), (7, 30)):
        rows += context.compare(
            f'{num} objects, {GROWTH}',
            {name: TrainingStep(model, size, num) for name, model in models.items()},
            max_rounds=2,
            numbers=dict(objects=num),
        )
    return rows


@section(
    'train_options',
    'The same training step with 7 objects and each switch on both detectors, each '
    'contestant in a process of its own. The losses show that they are finite.',
)
def train_options(context: Context) -> list[Row]:
    rows = []
    with ExitStack() as stack:
        workers = _workers(_train, context, OPTIONS, stack)
        for option in OPTIONS:
            found = context.compare(option, workers[option], memory=True)
            for row in found:
                row.numbers['loss'] = workers[option][row.contestant]()
            rows += found
            for worker in workers[option].values():
                worker.end()
    return rows


def _workers(make: Callable, context: Context, switches: Iterable[str], stack: ExitStack) -> dict:
    """Both detectors with each switch."""
    return {
        switch: {name: Worker(partial(make, context, switch, name), stack) for name in PAIR}
        for switch in switches
    }


def _train(context: Context, option: str, name: str) -> TrainingStep:
    switch, amp = OPTIONS[option]
    model = build(name, small=context.quick)
    SWITCHES[switch](model)
    return TrainingStep(model, context.pick(*TRAIN_SIZES), FEW, amp=amp)
