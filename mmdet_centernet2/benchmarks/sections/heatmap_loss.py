"""The heat-map loss against a dense target."""
from __future__ import annotations

from typing import Callable, List

import torch
from torch import Tensor

from mmdet_centernet2.benchmarks.dense_targets import (dense_center_targets,
                                                       dense_heatmap_loss)
from mmdet_centernet2.benchmarks.scenes import TEST_SIZE, layout_of, objects
from mmdet_centernet2.benchmarks.section import Context, Row, Section
from mmdet_centernet2.models.dense_heads.centernet2_proposal_head import \
    FPN_RANGES
from mmdet_centernet2.models.losses import HeatmapFocalLoss
from mmdet_centernet2.models.task_modules.center_targets import center_targets
from mmdet_centernet2.models.task_modules.level_layout import flatten_levels

NUM_OBJECTS = 30


class HeatLoss:
    """Targets, loss and backward pass; each call is one.

    Args:
        num_classes (int): Heat maps.
        dense (bool): With a (locations x classes) target, or ours.
        device (str): Where it works.
    """

    def __init__(self, num_classes: int, dense: bool, device: str) -> None:
        self.num_classes = num_classes
        self.layout = layout_of(TEST_SIZE, device=device)
        self.gt = objects(NUM_OBJECTS, TEST_SIZE, num_classes, device=device)
        self.ranges = torch.tensor(FPN_RANGES, device=device)
        generator = torch.Generator().manual_seed(0)
        self.logits = [
            (torch.randn(1, num_classes, *size, generator=generator) -
             4).to(device).requires_grad_()
            for size in self.layout.sizes.tolist()
        ]
        self.avg_factor = torch.tensor(float(NUM_OBJECTS), device=device)
        self.loss = HeatmapFocalLoss()
        self._compute: Callable[[], tuple] = (
            self._dense if dense else self._sparse)

    def __call__(self) -> Tensor:
        """Do it once.

        Returns:
            Tensor: Sum of the positive and the negative loss.
        """
        self.release()
        loss = sum(self._compute())
        loss.backward()
        return loss.detach()

    def release(self) -> None:
        """Drop the gradients."""
        for level in self.logits:
            level.grad = None

    def _dense(self) -> tuple:
        targets = dense_center_targets(self.gt, self.layout, self.ranges,
                                       self.num_classes)
        return dense_heatmap_loss(
            flatten_levels(self.logits), targets.heatmap, targets.pos_inds,
            targets.pos_labels, self.avg_factor)

    def _sparse(self) -> tuple:
        """As ``CenterNet2ProposalHead`` does."""
        targets = center_targets(self.gt, self.layout, self.ranges,
                                 self.num_classes)
        heat_inds, pos_inds = (
            self.layout.elements(rows, labels, self.num_classes)
            for rows, labels in ((targets.heat.rows, targets.heat.labels),
                                 (targets.pos_inds, targets.pos_labels)))
        return self.loss(self.logits, heat_inds, targets.heat.values, pos_inds,
                         self.avg_factor)


def run(context: Context) -> List[Row]:
    """Agnostic, COCO's and LVIS' classes."""
    rows = []
    for num_classes in context.pick((1, 80, 1203), (1, 80)):
        rows += context.compare(
            f'{num_classes:,} heat maps',
            dict(dense=HeatLoss(num_classes, True, context.device),
                 ours=HeatLoss(num_classes, False, context.device)),
            memory=True)
    return rows


SECTION = Section(
    'heatmap_loss',
    'Targets, heat-map loss and backward pass of one image of 800 x 1344 with '
    '30 objects. *Dense* has a target of locations x classes.', run)
