"""Everything that matters on a GPU, in one table."""
from __future__ import annotations

from typing import Callable, Dict, List, Tuple

import torch

from mmdet_centernet2.benchmarks.detectors import (CASCADE, OURS, build,
                                                   ready_to_predict)
from mmdet_centernet2.benchmarks.rates import (Kernel, bandwidth,
                                               fastest_convolution,
                                               matrix_product)
from mmdet_centernet2.benchmarks.scenes import TEST_SIZE
from mmdet_centernet2.benchmarks.section import Context, Row, Section
from mmdet_centernet2.benchmarks.sections import targets
from mmdet_centernet2.benchmarks.traffic import demand, kernel_seconds
from mmdet_centernet2.benchmarks.training import TrainingStep, compile_parts

BATCH = 16
OBJECTS = 7
#: What mmdet's --amp does; mmcv's RoIAlign knows no bfloat16 on a GPU.
AMP = torch.float16
PEAK_DTYPE = torch.bfloat16
EAGER = f'{OURS}, eager'
PEAK = 'matrix products, bf16'


def limits(context: Context) -> Tuple[List[Row], Kernel, float]:
    """The machine's rates.

    Returns:
        tuple[list[Row], Kernel, float]: Rows, the matrix product in bfloat16
        and the memory bandwidth in bytes a second.
    """
    size = context.pick(8192, 256)
    product = matrix_product(context, PEAK_DTYPE, size)
    rows = [_rate(PEAK, product)]
    for dtype in (torch.float32, PEAK_DTYPE):
        rows.append(_rate(f'convolutions, {dtype}'.replace('torch.', ''),
                          fastest_convolution(context, dtype)))
    traffic = bandwidth(context, context.pick(2**30, 2**20))
    rows.append(Row('limits of the machine', 'memory, copy',
                    numbers={'GB/s': traffic / 1e9}))
    return rows, product, traffic


def _rate(name: str, kernel: Kernel) -> Row:
    return Row('limits of the machine', f'{name}, {kernel.name}',
               numbers={'TFLOP/s': kernel.rate / 1e12})


def training(context: Context, peak: float, traffic: float) -> List[Row]:
    """Steps at batch 16 in AMP, eager and compiled."""
    batch, steps = _training_steps(context)
    # before compiling, which the counters do not see through
    needs = {name: demand(steps[f'{name}, eager']) for name in (CASCADE, OURS)}
    rows = context.compare(
        f'training, batch {batch}, AMP float16', steps, memory=True)
    for row in rows:
        name, _, mode = row.contestant.rpartition(', ')
        row.numbers['images/s'] = batch / row.timing.median
        _add_shares(row, needs[name], peak, traffic, mode == 'eager')
    return rows + _profile(context, f'training, {EAGER}',
                           steps[EAGER], _median(rows))


def _training_steps(context: Context) -> Tuple[int, Dict[str, TrainingStep]]:
    """Of both detectors, at the largest batch up to 16 that fits."""
    batch = context.pick(BATCH, 2)
    while True:
        try:
            steps = {
                f'{name}, {mode}': _training_step(context, name, mode, batch)
                for name in (CASCADE, OURS) for mode in ('eager', 'compiled')
            }
            return batch, steps
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise
            torch.cuda.empty_cache()
            batch //= 2
            context.say(f'out of memory, trying batch {batch}')


def _training_step(context: Context, name: str, mode: str,
                   batch: int) -> TrainingStep:
    """One that has been tried."""
    context.say(f'training, batch {batch}: building {name}, {mode}')
    model = build(name, context.device, small=context.quick)
    if mode == 'compiled':
        compile_parts(model)
    step = TrainingStep(model, _size(context), OBJECTS, batch,
                        context.device, AMP)
    step()
    step.release()
    return step


def inference(context: Context, peak: float, traffic: float) -> List[Row]:
    """Batch 1 and 8 in AMP, eager and compiled."""
    rows = []
    for batch in (1, 8):
        rows += _inference(context, batch, peak, traffic)
    return rows


@torch.no_grad()
def _inference(context: Context, batch: int, peak: float,
               traffic: float) -> List[Row]:
    calls, needs = {}, {}
    for name in (CASCADE, OURS):
        context.say(f'inference, batch {batch}: building {name}')
        eager = _predictor(context, name, batch)
        needs[name] = demand(eager)
        calls[f'{name}, eager'] = eager
        calls[f'{name}, compiled'] = _predictor(context, name, batch, True)
    rows = context.compare(
        f'inference, batch {batch}, AMP float16', calls, memory=True)
    for row in rows:
        name, _, mode = row.contestant.rpartition(', ')
        row.numbers['images/s'] = batch / row.timing.median
        _add_shares(row, needs[name], peak, traffic, mode == 'eager')
    return rows + _profile(context, f'inference, batch {batch}, {EAGER}',
                           calls[EAGER], _median(rows))


def _predictor(context: Context, name: str, batch: int,
               compiled: bool = False) -> Callable[[], object]:
    model, images, samples = ready_to_predict(
        name, _size(context), batch, context.device, context.quick)
    if compiled:
        compile_parts(model)

    def predict():
        with torch.no_grad(), torch.autocast(context.device, AMP):
            return model.predict(images, samples, rescale=False)

    return predict


def _add_shares(row: Row, need, peak: float, traffic: float,
                eager: bool) -> None:
    """How near the limits a row comes."""
    seconds = row.timing.median
    row.numbers['TFLOP'] = need.operations / 1e12
    row.numbers['% of bf16 peak'] = 100 * need.operations / seconds / peak
    if eager:  # fused operators move less, nobody knows how much
        row.numbers['tensor traffic (GB)'] = need.num_bytes / 1e9
        row.numbers['% of bandwidth'] = (
            100 * need.num_bytes / seconds / traffic)


def _median(rows: List[Row]) -> float:
    """Median seconds of ours, eager."""
    return next(r.timing.median for r in rows if r.contestant == EAGER)


def _profile(context: Context, work: str, call: Callable[[], object],
             seconds: float) -> List[Row]:
    """Where the time of a call goes; the rest is waiting for the host."""
    context.say(f'profile of {work}')
    kinds = kernel_seconds(call)
    kinds['GPU idle'] = max(seconds - sum(kinds.values()), 0.)
    return [
        Row(f'profile: {work}', kind,
            numbers={'% of the time': 100 * spent / seconds})
        for kind, spent in kinds.items()
    ]


def _size(context: Context) -> Tuple[int, int]:
    """800 x 1333, padded to whole cells."""
    return context.pick(TEST_SIZE, (256, 320))


def run(context: Context) -> List[Row]:
    """All of it."""
    torch.backends.cudnn.benchmark = True
    rows, product, traffic = limits(context)
    rows += training(context, product.rate, traffic)
    rows += inference(context, product.rate, traffic)
    rows += targets.agnostic(context) + targets.class_wise(context)
    return rows + targets.batches(context)


SECTION = Section(
    'gpu',
    'On a GPU: CenterNet2 against mmdet\'s Cascade R-CNN at 800 x 1333 '
    '(padded to 800 x 1344), eager and compiled, and how near the measured '
    'limits of the machine they come. *Tensor traffic* is what eager '
    'operators read and write; profiles name kinds of kernels.', run,
    gpu=True)
