"""Everything that matters on a GPU, in one table."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch

from ..detectors import CASCADE, OURS, Prediction, TrainingStep, build
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
    limit = {'TFLOP/s': product.rate / 1e12}
    rows = [Row('limit of the machine', f'matrix product, {product.name}', numbers=limit)]
    size = context.pick(TEST_SIZE, QUICK_SIZE)
    for what, batch in (('training', context.pick(BATCH, 2)), ('inference', 1), ('inference', 8)):
        calls: dict[str, Call] = {}
        for name, mode in itertools.product((CASCADE, OURS), ('eager', 'compiled')):
            say(f'{what}, batch {batch}: building {name}, {mode}')
            if what == 'training':
                model = build(name, 'cuda', context.quick)
                call: Call = TrainingStep(model, size, 7, batch, 'cuda', AMP)
            else:
                call = Prediction(name, size, batch, 'cuda', context.quick, AMP)
                model = call.model
            if mode == 'compiled':  # where most arithmetic is
                for part in (model.backbone, model.neck, model.rpn_head):
                    part.compile()
            calls[f'{name}, {mode}'] = call
        rows += _compare(context, product.rate, what, batch, calls)
    return rows + targets(context)


def _compare(
    context: Context, peak: float, what: str, batch: int, calls: Mapping[str, Call]
) -> list[Row]:
    """Times, how near the limit they come, and what ours is busy with."""
    # only eager calls: the counter does not see through compiled ones
    operations = {name: count_operations(calls[f'{name}, eager']) for name in (CASCADE, OURS)}
    work = f'{what}, batch {batch}, AMP float16'
    rows = context.compare(work, calls, memory=True)
    for row in rows:
        total, seconds = operations[row.contestant.rpartition(', ')[0]], row.timing.median
        row.numbers |= {'images/s': batch / seconds, 'TFLOP': total / 1e12}
        row.numbers['% of bf16 peak'] = 100 * total / seconds / peak
    seconds = next(r.timing.median for r in rows if r.contestant == EAGER)
    spent = gpu_seconds(calls[EAGER])
    spent['GPU idle'] = max(seconds - sum(spent.values()), 0.0)
    profiled = f'profile: {what}, batch {batch}, {EAGER}'
    return rows + [
        Row(profiled, operator, numbers={'% of the time': 100 * part / seconds})
        for operator, part in spent.items()
    ]
