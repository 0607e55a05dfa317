"""Everything that matters on a GPU, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch

from ..detectors import CASCADE, OURS, Prediction, TrainingStep, build, compile_parts
from ..machine import count_operations, gpu_seconds, matrix_product
from ..scenes import QUICK_SIZE, TEST_SIZE
from ..section import Call, Context, Row, say, section
from .parts import targets

BATCH = 16
#: What mmdet's --amp does; mmcv's RoIAlign knows no bfloat16 on a GPU.
AMP = torch.float16
EAGER = f'{OURS}, eager'


@section(
    'gpu',
    "On a GPU: CenterNet2 against mmdet's Cascade R-CNN at 800 x 1333 "
    '(padded to 800 x 1344), eager and compiled, and the share of the '
    'measured rate of matrix products that they reach; profiles name '
    'operators.',
)
def gpu(context: Context) -> list[Row]:
    torch.backends.cudnn.benchmark = True
    product = matrix_product(context, torch.bfloat16)
    rows = [
        Row(
            'limit of the machine',
            f'matrix product, {product.name}',
            numbers={'TFLOP/s': product.rate / 1e12},
        )
    ]
    compare = partial(_compare, context, product.rate)
    rows += compare('training', *_training_steps(context))
    for batch in (1, 8):
        rows += compare(
            'inference',
            batch,
            {
                f'{name}, {mode}': _prediction(context, name, mode, batch)
                for name in (CASCADE, OURS)
                for mode in ('eager', 'compiled')
            },
        )
    return rows + targets(context)


def _training_steps(context: Context) -> tuple[int, dict[str, TrainingStep]]:
    """Of both detectors, at the largest batch up to 16 that fits."""
    batch = context.pick(BATCH, 2)
    while True:
        try:
            return batch, {
                f'{name}, {mode}': _training_step(context, name, mode, batch)
                for name in (CASCADE, OURS)
                for mode in ('eager', 'compiled')
            }
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise
        torch.cuda.empty_cache()
        batch //= 2


def _training_step(context: Context, name: str, mode: str, batch: int) -> TrainingStep:
    """One that has been tried."""
    say(f'training, batch {batch}: building {name}, {mode}')
    model = build(name, context.device, small=context.quick)
    if mode == 'compiled':
        compile_parts(model)
    step = TrainingStep(model, context.pick(TEST_SIZE, QUICK_SIZE), 7, batch, context.device, AMP)
    step()
    step.release()
    return step


def _prediction(context: Context, name: str, mode: str, batch: int) -> Prediction:
    say(f'inference, batch {batch}: building {name}, {mode}')
    predict = Prediction(
        name, context.pick(TEST_SIZE, QUICK_SIZE), batch, context.device, context.quick, AMP
    )
    if mode == 'compiled':
        compile_parts(predict.model)
    return predict


def _compare(
    context: Context, peak: float, what: str, batch: int, calls: Mapping[str, Call]
) -> list[Row]:
    """Times, how near the limit they come, and what ours is busy with."""
    # only eager calls: the counter does not see through compiled ones
    operations = {name: count_operations(calls[f'{name}, eager']) for name in (CASCADE, OURS)}
    work = f'{what}, batch {batch}, AMP float16'
    rows = context.compare(work, calls, memory=True)
    for row in rows:
        name, seconds = row.contestant.rpartition(', ')[0], row.timing.median
        row.numbers.update(
            {
                'images/s': batch / seconds,
                'TFLOP': operations[name] / 1e12,
                '% of bf16 peak': 100 * operations[name] / seconds / peak,
            }
        )
    seconds = next(r.timing.median for r in rows if r.contestant == EAGER)
    spent = gpu_seconds(calls[EAGER])
    spent['GPU idle'] = max(seconds - sum(spent.values()), 0.0)
    return rows + [
        Row(
            f'profile: {what}, batch {batch}, {EAGER}',
            operator,
            numbers={'% of the time': 100 * part / seconds},
        )
        for operator, part in spent.items()
    ]
