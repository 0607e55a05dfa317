"""From the head's maps to proposals and detections."""
from __future__ import annotations

from typing import List, Tuple

import torch
from torch import Tensor

from mmdet_centernet2.benchmarks.plain_decode import plain_decode
from mmdet_centernet2.benchmarks.scenes import STRIDES, TEST_SIZE
from mmdet_centernet2.benchmarks.section import Context, Row, Section
from mmdet_centernet2.models.task_modules.center_decoder import decode, select

SCORE_THR = 1e-4
NMS_PRE = 1000
NMS = dict(type='nms', iou_threshold=0.9, class_agnostic=True)
MAX_PER_IMG = 256


def random_maps(num_classes: int, batch: int,
                device: str) -> Tuple[List[Tensor], List[Tensor]]:
    """Logits and distances in stride units of all levels."""
    generator = torch.Generator().manual_seed(0)
    maps = []
    for channels in (num_classes, 4):
        maps.append([
            torch.randn(batch, channels, -(-TEST_SIZE[0] // stride),
                        -(-TEST_SIZE[1] // stride),
                        generator=generator).to(device) for stride in STRIDES
        ])
    logits, distances = maps
    return [level - 4 for level in logits], [d.abs() * 4 for d in distances]


@torch.no_grad()
def run(context: Context) -> List[Row]:
    """Decoding alone, then suppression."""
    rows = []
    for num_classes in (1, 80):
        for batch in context.pick((1, 8), (1, )):
            rows += _decode(context, num_classes, batch)
    return rows + _select(context, context.pick(8, 1))


def _decode(context: Context, num_classes: int, batch: int) -> List[Row]:
    maps = random_maps(num_classes, batch, context.device)
    args = (*maps, STRIDES, SCORE_THR, NMS_PRE, num_classes == 1)
    return context.compare(
        f'decode, {num_classes} classes, batch {batch}',
        dict(plain=lambda: plain_decode(*args), ours=lambda: decode(*args)),
        memory=True)


def _select(context: Context, batch: int) -> List[Row]:
    maps = random_maps(1, batch, context.device)
    found = decode(*maps, STRIDES, SCORE_THR, NMS_PRE, True)
    return context.compare(
        f'NMS of {found.scores.size(1)} candidates, batch {batch}',
        dict(ours=lambda: select(found, NMS, MAX_PER_IMG)))


SECTION = Section(
    'decode',
    'From the maps of the first stage, 800 x 1344, to the best 1,000 '
    'candidates of each level. *Plain* computes probabilities and boxes for '
    'every location before it chooses; ours chooses first. Suppression is '
    'timed apart.', run)
