"""The federated loss against the full product and a mask."""
from __future__ import annotations

from typing import Callable, List

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_centernet2.benchmarks.dense_federated import masked_classifier_loss
from mmdet_centernet2.benchmarks.section import Context, Plot, Row, Section
from mmdet_centernet2.models.losses import ChosenScores, FederatedLoss
from mmdet_centernet2.models.losses.chosen_rows import chosen_rows

#: Of LVIS, two between, and of a union of data sets.
NUM_CLASSES = (1203, 3000, 6500, 13204)
NUM_ROIS = 512
FEATURES = 1024
FOREGROUND = 128


class FederatedStep:
    """Classifier, loss and backward pass; each call is one.

    Args:
        num_classes (int): C.
        chosen_only (bool): Compute the chosen columns alone, or all of them
            and a mask.
        device (str): Where it works.
    """

    def __init__(self, num_classes: int, chosen_only: bool,
                 device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.num_classes = num_classes
        self.classifier = nn.Linear(FEATURES, num_classes + 1).to(device)
        self.features = torch.randn(
            NUM_ROIS, FEATURES, generator=generator).to(device)
        self.features.requires_grad_()
        self.labels = torch.full((NUM_ROIS, ), num_classes)
        self.labels[:FOREGROUND] = torch.randint(
            min(num_classes, 20), (FOREGROUND, ), generator=generator)
        self.labels = self.labels.to(device)
        self.loss = FederatedLoss(cat_freq=None)
        self._compute = self._chosen if chosen_only else self._all

    def __call__(self) -> Tensor:
        """Do one step.

        Returns:
            Tensor: The loss.
        """
        self.release()
        loss = self._compute()
        loss.backward()
        return loss.detach()

    def release(self) -> None:
        """Drop the gradients."""
        self.classifier.zero_grad()
        self.features.grad = None

    def _classes(self) -> Tensor:
        return self.loss.sample_classes(self.labels, self.num_classes)

    def _chosen(self) -> Tensor:
        classes = self._classes()
        logits = F.linear(self.features,
                          chosen_rows(self.classifier.weight, classes),
                          chosen_rows(self.classifier.bias, classes))
        return self.loss(
            ChosenScores(logits, classes, self.num_classes), self.labels)

    def _all(self) -> Tensor:
        return masked_classifier_loss(self.features, self.classifier,
                                      self.labels, self._classes())


def against_mask(context: Context) -> List[Row]:
    """Ours and the full product for each number of classes."""
    rows = []
    for num in context.pick(NUM_CLASSES, NUM_CLASSES[::3]):
        rows += context.compare(
            f'{num:,} classes', {
                'all columns and a mask': FederatedStep(
                    num, False, context.device),
                'chosen columns (ours)': FederatedStep(
                    num, True, context.device),
            },
            numbers=dict(classes=num))
    return rows


def against_fewer(context: Context) -> List[Row]:
    """Ours with the fewest and with the most classes."""
    calls: dict[str, Callable] = {
        f'{num:,} classes': FederatedStep(num, True, context.device)
        for num in (NUM_CLASSES[0], NUM_CLASSES[-1])
    }
    return context.compare('ours, many classes against few', calls)


def run(context: Context) -> List[Row]:
    """Both comparisons."""
    return against_mask(context) + against_fewer(context)


SECTION = Section(
    'federated',
    'Classifier and federated loss of 512 RoIs with 1,024 features, forward '
    'and backward, 50 sampled classes.',
    run,
    plots=(Plot('speed_federated.png',
                'Federated loss, classifier included, 512 RoIs',
                'classes'), ))
