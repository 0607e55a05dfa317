"""Parts of a detector against the dense methods."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_centernet2.models.dense_heads.centernet2_proposal_head import FPN_RANGES
from mmdet_centernet2.models.losses import FederatedLoss, HeatmapFocalLoss
from mmdet_centernet2.models.losses.federated_loss import federated_bce
from mmdet_centernet2.models.ops import gather_rows
from mmdet_centernet2.models.task_modules import (
    BatchBoxes,
    LevelLayout,
    center_targets,
    flatten_levels,
)
from tests.reference import dense as reference

from ..scenes import QUICK_SIZE, STRIDES, TEST_SIZE, map_sizes, random_boxes, random_labels
from ..section import Context, Plot, Row, section

AGNOSTIC = 'class-agnostic'
TITLE = 'Target assignment, class-agnostic, 800 x 1344'
#: From so many objects on the dense method needs seconds.
MANY = 1000


def _scene(context: Context, num: int, num_classes: int, batch: int = 1) -> tuple:
    """Objects, layout and half-diagonal ranges of a batch."""
    device, size = torch.device(context.device), context.pick(TEST_SIZE, QUICK_SIZE)
    boxes = [random_boxes(num, size, image).to(device) for image in range(batch)]
    labels = [random_labels(num, num_classes, image).to(device) for image in range(batch)]
    return (
        BatchBoxes.collate(boxes, labels),
        LevelLayout.build(map_sizes(size), STRIDES, batch, device),
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
    batch = context.pick(8, 2)
    few = context.pick((7, 300, MANY), (7,))
    cases = [(AGNOSTIC, num, 1, 1) for num in context.pick((7, 30, 100, 300, MANY, 2000), (7, 100))]
    cases += [(f'{classes} classes', num, classes, 1) for classes in (80, 1203) for num in few]
    cases += [(f'batch of {batch}', 30, 1, batch)]
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


def heatmap_losses(context: Context, num_classes: int, num_objects: int = 30) -> dict[str, Step]:
    """Targets, heat-map loss and backward pass: dense and ours."""
    gt, layout, ranges = _scene(context, num_objects, num_classes)
    torch.manual_seed(num_classes)
    shapes = [(1, num_classes, *size) for size in layout.sizes.tolist()]
    logits = [(torch.randn(s) - 4).to(context.device).requires_grad_() for s in shapes]
    factor = torch.tensor(float(num_objects), device=context.device)
    loss = HeatmapFocalLoss()

    def dense() -> Tensor:
        found = reference.blocked_center_targets(gt, layout, ranges, num_classes)
        return sum(
            reference.dense_heatmap_loss(
                flatten_levels(logits), found.heatmap, found.pos_inds, found.pos_labels, factor
            )
        )

    def ours() -> Tensor:  # as the head does
        found = center_targets(gt, layout, ranges, num_classes)
        heat = layout.elements(found.heat.rows, found.heat.labels, num_classes)
        positives = layout.elements(found.pos_inds, found.pos_labels, num_classes)
        return sum(loss(logits, heat, found.heat.values, positives, factor))

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
    labels = torch.full((rois,), num_classes)
    labels[: rois // 4] = torch.randint(20, (rois // 4,))
    labels = labels.to(context.device)
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
