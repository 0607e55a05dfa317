"""What the switches of ``engine/fast_inference.py`` give."""
from __future__ import annotations

from functools import partial
from typing import Callable, Dict, List, Optional

import torch
from torch import nn

from mmdet_centernet2.benchmarks.detectors import (CASCADE, OURS,
                                                   ready_to_predict)
from mmdet_centernet2.benchmarks.rates import Kernel, fastest_convolution
from mmdet_centernet2.benchmarks.scenes import TEST_SIZE
from mmdet_centernet2.benchmarks.section import Context, Row, Section
from mmdet_centernet2.benchmarks.traffic import demand
from mmdet_centernet2.benchmarks.training import compile_parts
from mmdet_centernet2.benchmarks.workers import Worker, drop_failures
from mmdet_centernet2.engine.cpu_speed import CPUSpeedHook
from mmdet_centernet2.engine.fast_inference import MODES, speed_up

#: A convolution is repeated until it has this share of the model's arithmetic.
SHARE = 0.25
EAGER = f'{OURS}, eager'
AS_CONFIGURED = f'{OURS}, eager, with the CPUSpeedHook of its config'


def run(context: Context) -> List[Row]:
    """mmdet's Cascade R-CNN, ours, every switch, convolutions, in turn."""
    calls = {CASCADE: _worker(context, detector=CASCADE)}
    calls[EAGER] = _worker(context)
    calls[AS_CONFIGURED] = _worker(context, change=CPUSpeedHook().apply)
    for mode in MODES:
        calls[_name(mode)] = _worker(context, partial(speed_up, mode=mode))
    if not context.quick:  # compiling takes a minute
        for mode in MODES:
            name = f'{_name(mode)}, torch.compile with freezing'
            calls[name] = _worker(
                context, partial(speed_up, mode=mode), compiled=True)
    try:
        return _compare(context, calls)
    finally:
        for worker in calls.values():
            worker.stop()


def _name(mode: str) -> str:
    """What ours with a switch is called."""
    return f'{OURS}, --fast {mode}'


def _dtype(contestant: str) -> torch.dtype:
    """Type that one of ours computes in."""
    for mode, dtype in MODES.items():
        if contestant.startswith(_name(mode)):
            return dtype
    return torch.float32


def _worker(context: Context,
            change: Optional[Callable[[nn.Module], object]] = None,
            compiled: bool = False,
            detector: str = OURS) -> Worker:
    """A detector in a process of its own."""
    return Worker(lambda: _predictor(context, change, compiled, detector))


def _predictor(context: Context,
               change: Optional[Callable[[nn.Module], object]] = None,
               compiled: bool = False,
               detector: str = OURS) -> Callable[[], None]:
    model, images, samples = ready_to_predict(
        detector, _size(context), small=context.quick)
    if change is not None:
        change(model)
    if compiled:
        compile_parts(model, options=dict(freezing=True))

    def predict() -> None:
        with torch.no_grad():
            model.predict(images, samples, rescale=False)

    return predict


def _compare(context: Context, workers: Dict[str, Worker]) -> List[Row]:
    size = _size(context)
    work = f'{size[0]} x {size[1]}'
    failures = drop_failures(workers, context.say)
    calls: Dict[str, Callable] = dict(workers)
    context.say('counting operations')
    operations = demand(_predictor(context)).operations
    kernels = {}
    for dtype in MODES.values():
        context.say(f'rate of convolutions, {dtype}')
        kernels[dtype] = fastest_convolution(context, dtype)
    for dtype, kernel in kernels.items():
        calls[_kernel_name(dtype)] = _repeated(kernel, operations)
    rows = context.compare(work, calls)
    limits = {
        dtype: _limit(rows, dtype, kernel, operations)
        for dtype, kernel in kernels.items()
    }
    for row in rows[1:-len(kernels)]:  # not mmdet's: other operations
        limit = limits[_dtype(row.contestant)]
        row.numbers['arithmetic limit (s)'] = limit
        row.numbers['times the limit'] = row.timing.median / limit
    return rows + [
        Row(work, name, numbers=dict(layer=f'failed: {reason}'))
        for name, reason in failures.items()
    ]


def _repeated(kernel: Kernel, operations: int) -> Callable[[], None]:
    """So many calls that the clock can tell, with part of the arithmetic."""
    times = _times(kernel, operations)

    def call() -> None:
        with torch.no_grad():
            for _ in range(times):
                kernel.call()

    return call


def _times(kernel: Kernel, operations: int) -> int:
    return max(round(SHARE * operations / kernel.operations), 1)


def _limit(rows: List[Row], dtype: torch.dtype, kernel: Kernel,
           operations: int) -> float:
    """Seconds that the model's arithmetic takes at the convolution's rate.

    Its row says what the rate was.
    """
    row = next(r for r in rows if r.contestant == _kernel_name(dtype))
    done = _times(kernel, operations) * kernel.operations
    rate = done / row.timing.median
    row.work, row.speedup = 'the machine', None
    row.numbers['GFLOP/s'] = rate / 1e9
    row.numbers['layer'] = kernel.name
    return operations / rate


def _kernel_name(dtype: torch.dtype) -> str:
    return f'convolutions, {dtype}'.replace('torch.', '')


def _size(context: Context) -> tuple:
    return context.pick(TEST_SIZE, (256, 320))


SECTION = Section(
    'fast',
    'Inference with the switch `--fast`, batch 1, FP32 but where it says '
    'bf16, against mmdet as it comes, each '
    'contestant in a process of its own, and the arithmetic limit: all '
    'operations of the model\'s convolutions and matrix products at the rate '
    'of the fastest 3x3 convolution, measured in the same turns.', run)
