"""Non-maximum suppression against mmcv's and mmdet's."""

from __future__ import annotations

from functools import partial

import mmcv.ops
import torch
from mmdet.models.layers import multiclass_nms as mmdet_nms
from torch import Tensor

from mmdet_centernet2.models.ops import batched_nms, multiclass_nms

from ..section import Context, Row, section

PROPOSALS = 256
#: Classes, pairs above the threshold, objects.
CASES = (
    *((1203, 12_000, 15), (1203, 40_000, 15), (1203, 40_000, 60), (1203, 130_000, 60)),
    *((80, 12_000, 60), (80, 12_000, 200)),
)


def boxes_at(places: int, count: int) -> Tensor:
    """Boxes of 70 to 150 px that scatter by 4 px around some places."""
    corners, sides = torch.rand(places, 2) * 1200, torch.rand(places, 2) * 80 + 70
    boxes = torch.cat([corners, corners + sides], 1)[torch.arange(count) % places]
    return (boxes + torch.randn(count, 4) * 4).clamp(min=0)


def last_suppression(context: Context, num_classes: int, pairs: int, objects: int) -> list[Row]:
    """All that a box head does with the scores of ``PROPOSALS`` boxes."""
    boxes = boxes_at(objects, PROPOSALS)
    logits = torch.randn(objects, num_classes + 1)[torch.arange(PROPOSALS) % objects]
    scores = (logits + torch.randn_like(logits) * 0.3).softmax(1).sqrt()
    threshold = scores[:, :-1].flatten().topk(pairs + 1).values[-1].item()
    cfg, most = dict(type='nms', iou_threshold=0.5), 300 if num_classes > 80 else 100
    args = boxes, scores, threshold, cfg, most
    wanted, found = mmdet_nms(*args)[0], multiclass_nms(*args)[0]
    assert torch.equal(wanted, found)
    return context.compare(
        f'{num_classes:,} classes, {pairs:,} pairs of box and class, {objects} objects',
        dict(mmdet=partial(mmdet_nms, *args), ours=partial(multiclass_nms, *args)),
        numbers=dict(detections=len(found)),
    )


def first_suppression(context: Context, places: int, count: int, iou_threshold: float) -> list[Row]:
    """Of proposals: the best ``PROPOSALS`` are wanted."""
    boxes, scores, labels = boxes_at(places, count), torch.rand(count), torch.zeros(count).long()
    cfg = dict(type='nms', iou_threshold=iou_threshold, class_agnostic=True)
    args = boxes, scores, labels, cfg
    wanted = mmcv.ops.batched_nms(*args)[0]
    assert torch.equal(batched_nms(*args, PROPOSALS)[0][:PROPOSALS], wanted[:PROPOSALS])
    calls = dict(mmcv=partial(mmcv.ops.batched_nms, *args))
    calls['ours'] = partial(batched_nms, *args, PROPOSALS)
    work = f'{count:,} proposals on {places:,} places, IoU {iou_threshold}'
    return context.compare(work, calls, numbers={'would survive': len(wanted)})


@section(
    'nms',
    'The last suppression, with the choice of pairs above the score threshold, against '
    "mmdet's `multiclass_nms`; and that of proposals, of which 256 are wanted, against mmcv's "
    '`batched_nms`. The tool checks that both give the same boxes in the same order.',
)
def nms(context: Context) -> list[Row]:
    torch.manual_seed(0)
    rows = []
    for case in context.pick(CASES, [(80, 300, 15)]):
        rows += last_suppression(context, *case)
    for places in context.pick((5, 20, 100, 300, 5000), (5,)):
        for iou_threshold in context.pick((0.6, 0.9), (0.9,)):
            rows += first_suppression(context, places, context.pick(5000, 500), iou_threshold)
    return rows
