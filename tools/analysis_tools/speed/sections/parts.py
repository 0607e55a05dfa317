"""Parts of a detector against the dense methods."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import mmcv.ops
import torch
import torch.nn.functional as F
from mmdet.models.layers import multiclass_nms as mmdet_nms
from torch import Tensor, nn

from mmdet_centernet2.models.dense_heads.centernet2_proposal_head import FPN_RANGES
from mmdet_centernet2.models.losses import FederatedLoss, HeatmapFocalLoss
from mmdet_centernet2.models.losses.federated_loss import federated_bce
from mmdet_centernet2.models.ops import batched_nms, gather_rows, multiclass_nms
from mmdet_centernet2.models.task_modules import (
    BatchBoxes,
    LevelLayout,
    center_targets,
    flatten_levels,
)
from tests.reference import dense as reference

from ..scenes import QUICK_SIZE, STRIDES, TEST_SIZE, random_boxes, random_labels
from ..section import Context, Plot, Row, section

AGNOSTIC = 'class-agnostic'
FEW = 30  #: Objects.
TITLE = 'Target assignment, class-agnostic, 800 x 1344'
MANY = 1000  #: From so many objects on the dense method needs seconds.
PROPOSALS = 256
#: Of the last suppression: classes, pairs above the threshold, objects.
PAIRS = (
    *((1203, 12_000, 15), (1203, 40_000, 15), (1203, 40_000, 60), (1203, 130_000, 60)),
    *((80, 12_000, 60), (80, 12_000, 200)),
)


def _scene(context: Context, num: int, num_classes: int, batch: int = 1) -> tuple:
    """Objects, layout and half-diagonal ranges of a batch."""
    device, size = torch.device(context.device), context.pick(TEST_SIZE, QUICK_SIZE)
    boxes = [random_boxes(num, size, image).to(device) for image in range(batch)]
    labels = [random_labels(num, num_classes, image).to(device) for image in range(batch)]
    maps = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in STRIDES]
    return (
        BatchBoxes.collate(boxes, labels),
        LevelLayout.build(maps, STRIDES, batch, device),
        torch.tensor(FPN_RANGES, device=device),
    )


@section(
    'targets',
    'Targets of the first stage for images of 800 x 1344, 22,400 locations: '
    'heat map, positives and regression targets. '
    '*Dense* compares every location with every object, in blocks that stay in the cache; '
    "*original* is the original's way to do so. All give the same targets.",
    Plot('speed_targets.png', TITLE, 'objects', only=AGNOSTIC),
    Plot('speed_targets_memory.png', TITLE, 'objects', 'extra memory (MB)', only=AGNOSTIC),
)
def targets(context: Context) -> list[Row]:
    counts, few, batch = context.pick(
        ((7, 30, 100, 300, MANY, 2000), (7, 300, MANY), 8), ((7, 100), (7,), 2)
    )
    cases = [(AGNOSTIC, num, 1, 1) for num in counts]
    cases += [(f'{classes} classes', num, classes, 1) for classes in (80, 1203) for num in few]
    cases += [(f'batch of {batch}', FEW, 1, batch)]
    methods = dict(
        dense=reference.blocked_center_targets,
        original=reference.dense_center_targets,
        ours=center_targets,
    )
    rows = []
    for kind, num, num_classes, images in cases:
        scene = *_scene(context, num, num_classes, images), num_classes
        calls = {name: partial(method, *scene) for name, method in methods.items()}
        most = 3 if num >= MANY else None
        work, numbers = f'{kind}, {num} objects', dict(objects=num)
        rows += context.compare(work, calls, most, numbers, memory=True)
    return rows


class Step:
    """A loss and its backward pass, and an optimizer's step; each call is one."""

    def __init__(self, loss: Callable[[], Tensor], *leaves: Tensor, optimize: bool = False) -> None:
        self.loss, self.leaves = loss, leaves
        # as the configs have it, but with a rate that leaves the weights
        self.optimizer = torch.optim.SGD(leaves, 1e-9, 0.9, weight_decay=1e-4) if optimize else None

    def __call__(self) -> Tensor:
        """The loss."""
        self.release()
        loss = self.loss()
        loss.backward()
        if self.optimizer:
            nn.utils.clip_grad_value_(self.leaves, 1.0)
            self.optimizer.step()
        return loss.detach()

    def release(self) -> None:
        """Drop the gradients."""
        for leaf in self.leaves:
            leaf.grad = None


def heatmap_losses(context: Context, num_classes: int) -> dict[str, Step]:
    """Targets, heat-map loss and backward pass: dense and ours."""
    gt, layout, ranges = _scene(context, FEW, num_classes)
    torch.manual_seed(num_classes)
    maps = [torch.randn(1, num_classes, *size) - 4 for size in layout.sizes.tolist()]
    logits = [x.to(context.device).requires_grad_() for x in maps]
    factor = torch.tensor(float(FEW), device=context.device)
    loss = HeatmapFocalLoss()

    def dense() -> Tensor:
        found = reference.blocked_center_targets(gt, layout, ranges, num_classes)
        target = found.heatmap, found.pos_inds, found.pos_labels, factor
        return sum(reference.dense_heatmap_loss(flatten_levels(logits), *target))

    def ours() -> Tensor:  # as the head does
        found = center_targets(gt, layout, ranges, num_classes)
        heat = layout.elements(found.heat_inds, found.heat_labels, num_classes)
        positives = layout.elements(found.pos_inds, found.pos_labels, num_classes)
        return sum(loss(logits, heat, found.heat_values, positives, factor))

    return dict(dense=Step(dense, *logits), ours=Step(ours, *logits))


@section(
    'heatmap_loss',
    'Targets, heat-map loss and backward pass of one image of 800 x 1344 with '
    '30 objects. *Dense* has a target of locations x classes, made in blocks.',
)
def heatmap_loss(context: Context) -> list[Row]:
    return [
        row
        for num in context.pick((1, 80, 1203), (1, 80))
        for row in context.compare(f'{num:,} heat maps', heatmap_losses(context, num), memory=True)
    ]


def federated_losses(
    context: Context, num_classes: int, rois: int = 512, features: int = 1024
) -> dict[str, Step]:
    """Classifier, loss, backward pass and optimizer step: dense and ours."""
    classifier = nn.Linear(features, num_classes + 1, device=context.device)
    x = torch.randn(rois, features, device=context.device, requires_grad=True)
    labels = torch.full((rois,), num_classes, device=context.device)
    labels[: rois // 4] = torch.randint(20, (rois // 4,))
    loss = FederatedLoss(cat_freq=None)

    def dense(masked: bool) -> Tensor:
        classes = loss.sample_classes(labels, num_classes)
        return reference.dense_federated_loss(classifier(x), labels, classes, masked)

    def ours() -> Tensor:  # as the box head does
        classes = loss.sample_classes(labels, num_classes)
        weight, bias = (gather_rows(p, classes) for p in (classifier.weight, classifier.bias))
        return federated_bce(F.linear(x, weight, bias), labels, classes).mean()

    losses = dict(dense=partial(dense, False), original=partial(dense, True), ours=ours)
    leaves = classifier.weight, classifier.bias, x
    return {name: Step(step, *leaves, optimize=True) for name, step in losses.items()}


@section(
    'federated',
    'Classifier and federated loss of 512 RoIs with 1,024 features, 50 sampled classes: '
    'forward, backward, clipping by value and SGD with momentum. *Dense* computes the '
    'logits of all classes and the loss of the sampled ones; *original* also computes the '
    'loss of all classes and masks it.',
    Plot('speed_federated.png', 'Federated loss, classifier included, 512 RoIs', 'classes'),
)
def federated(context: Context) -> list[Row]:
    rows = []
    # of LVIS, two between, and of a union of data sets
    for num in context.pick((1203, 3000, 6500, 13204), (1203,)):
        losses, numbers = federated_losses(context, num), dict(classes=num)
        rows += context.compare(f'{num:,} classes', losses, numbers=numbers)
    return rows


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
    for case in context.pick(PAIRS, [(80, 300, 15)]):
        rows += last_suppression(context, *case)
    for places in context.pick((5, 20, 100, 300, 5000), (5,)):
        for iou_threshold in context.pick((0.6, 0.9), (0.9,)):
            rows += first_suppression(context, places, context.pick(5000, 500), iou_threshold)
    return rows
