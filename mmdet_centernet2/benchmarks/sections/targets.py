"""Target assignment of the first stage against the dense method."""
from __future__ import annotations

from typing import List, Tuple

import torch
from torch import Tensor

from mmdet_centernet2.benchmarks.dense_targets import dense_center_targets
from mmdet_centernet2.benchmarks.scenes import TEST_SIZE, layout_of, objects
from mmdet_centernet2.benchmarks.section import Context, Plot, Row, Section
from mmdet_centernet2.models.dense_heads.centernet2_proposal_head import \
    FPN_RANGES
from mmdet_centernet2.models.task_modules.center_targets import (
    BatchBoxes, center_targets)
from mmdet_centernet2.models.task_modules.level_layout import LevelLayout
from mmdet_centernet2.models.task_modules.positive_mining import mine_positives

AGNOSTIC = 'class-agnostic'
NUM_OBJECTS = (7, 30, 100, 300, 1000, 2000)
#: From here on the dense method needs seconds.
MANY = 1000


def agnostic(context: Context) -> List[Row]:
    """Class-agnostic targets of one image against the number of objects."""
    rows = []
    for num in context.pick(NUM_OBJECTS, (7, 100)):
        rows += _compare(context, AGNOSTIC, num, 1)
    return rows


def class_wise(context: Context) -> List[Row]:
    """One heat map for each class of COCO and LVIS."""
    rows = []
    for num_classes in (80, 1203):
        for num in context.pick((7, 300, MANY), (7, )):
            rows += _compare(context, f'{num_classes} classes', num,
                             num_classes)
    return rows


def batches(context: Context) -> List[Row]:
    """Several images at once."""
    batch = context.pick(8, 2)
    return _compare(context, f'batch of {batch}', 30, 1, batch)


def _compare(context: Context, kind: str, num: int, num_classes: int,
             batch: int = 1) -> List[Row]:
    scene = _scene(context, num, num_classes, batch)
    return context.compare(
        f'{kind}, {num} objects',
        dict(dense=lambda: dense_center_targets(*scene, num_classes),
             ours=lambda: center_targets(*scene, num_classes)),
        rounds=_rounds(context, num),
        numbers=dict(objects=num),
        memory=True)


def _scene(context: Context, num: int, num_classes: int,
           batch: int = 1) -> Tuple[BatchBoxes, LevelLayout, Tensor]:
    """Objects, layout and half-diagonal ranges of a batch."""
    return (objects(num, TEST_SIZE, num_classes, batch, context.device),
            layout_of(TEST_SIZE, batch, context.device),
            torch.tensor(FPN_RANGES, device=context.device))


def mining(context: Context) -> List[Row]:
    """Extra positives chosen by the predicted boxes."""
    rows = []
    for num in context.pick((7, 300, MANY), (7, )):
        gt, layout, ranges = _scene(context, num, 80)
        generator = torch.Generator().manual_seed(0)
        ltrb = torch.rand(layout.num_rows, 4, generator=generator) * 8
        args = gt, layout, ranges, ltrb.to(context.device)
        rows += context.compare(
            f'extra positives, {num} objects',
            dict(ours=lambda args=args: mine_positives(*args)),
            numbers=dict(objects=num), memory=True)
    return rows


def _rounds(context: Context, num: int) -> int:
    return min(context.rounds, 3) if num >= MANY else context.rounds


def run(context: Context) -> List[Row]:
    """All kinds of targets."""
    return [
        row for part in (agnostic, class_wise, batches, mining)
        for row in part(context)
    ]


def _is_agnostic(row: Row) -> bool:
    return row.work.startswith(AGNOSTIC)


TITLE = 'Target assignment, class-agnostic, 800 x 1344'
SECTION = Section(
    'targets',
    'Targets of the first stage for images of 800 x 1344, 22,400 locations: '
    'heat map, positives, regression targets, and extra positives apart. '
    '*Dense* is the original\'s way, every location against every object; '
    'both give the same targets.',
    run,
    plots=(Plot('speed_targets.png', TITLE, 'objects', only=_is_agnostic),
           Plot('speed_targets_memory.png', TITLE, 'objects',
                'extra memory (MB)', _is_agnostic)))
