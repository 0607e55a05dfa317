"""Everything that matters on a GPU, in one table."""

from __future__ import annotations

import itertools

import torch

from ..detectors import CASCADE, OURS, Prediction, TrainingStep, build
from ..machine import count_operations, gpu_seconds, matrix_product
from ..scenes import QUICK_SIZE, TEST_SIZE
from ..section import Context, Row, say, section
from .parts import targets

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
    device = torch.cuda.get_device_name()
    rows = [Row(f'limit of {device}', f'matrix product, {product.name}', numbers=limit)]
    size = context.pick(TEST_SIZE, QUICK_SIZE)
    for kind, batch in ((TrainingStep, context.pick(16, 2)), (Prediction, 1), (Prediction, 8)):
        what = f'{"training" if kind is TrainingStep else "inference"}, batch {batch}'
        calls, operations = {}, {}
        for name, mode in itertools.product((CASCADE, OURS), ('eager', 'compiled')):
            say(f'{what}: building {name}, {mode}')
            call = kind(build(name, 'cuda', context.quick), size, 7, batch, 'cuda', AMP)
            if mode == 'eager':  # the counter does not see through compiled calls
                operations[name] = count_operations(call)
            else:  # where most arithmetic is
                for part in (call.model.backbone, call.model.neck, call.model.rpn_head):
                    part.compile()
            calls[f'{name}, {mode}'] = call
        found = context.compare(f'{what}, AMP float16', calls, memory=True)
        for row in found:
            total, seconds = operations[row.contestant.rpartition(', ')[0]], row.timing.median
            row.numbers |= {'images/s': batch / seconds, 'TFLOP': total / 1e12}
            row.numbers['% of bf16 peak'] = 100 * total / seconds / product.rate
        rows += found
        # what ours is busy with
        seconds, spent = found[2].timing.median, gpu_seconds(calls[EAGER])
        spent['GPU idle'] = max(seconds - sum(spent.values()), 0.0)
        for operator, part in spent.items():
            share = {'% of the time': 100 * part / seconds}
            rows.append(Row(f'profile: {what}, {EAGER}', operator, numbers=share))
    return rows + targets(context)
