"""Whole detectors at test time, as they come."""
from __future__ import annotations

from typing import List

import torch

from mmdet_centernet2.benchmarks.detectors import (CASCADE, CONFIGS,
                                                   count_work,
                                                   ready_to_predict)
from mmdet_centernet2.benchmarks.scenes import TEST_SIZE
from mmdet_centernet2.benchmarks.section import Context, Row, Section


@torch.no_grad()
def run(context: Context) -> List[Row]:
    """All detectors, batch 1, FP32, eager."""
    size = context.pick(TEST_SIZE, (256, 320))
    names = [CASCADE] + [name for name in CONFIGS if name != CASCADE]
    calls, work = {}, {}
    for name in names:
        context.say(f'building {name}')
        model, images, samples = ready_to_predict(
            name, size, small=context.quick)
        work[name] = count_work(model, images, samples)
        calls[name] = lambda m=model, i=images, s=samples: m.predict(
            i, s, rescale=False)
    rows = context.compare(
        f'{size[0]} x {size[1]}', calls, memory=True)
    for row in rows:
        row.numbers.update(work[row.contestant]._asdict())
    return rows


SECTION = Section(
    'inference',
    'Whole detectors with a ResNet-50, from the network input to the '
    'detections: batch 1, FP32, eager, as their configs make them. Weights '
    'are random, the work is not: every detector gets the proposals and '
    'detections that the table counts.', run)
