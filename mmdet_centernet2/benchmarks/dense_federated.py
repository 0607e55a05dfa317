"""The federated loss the plain way, to compare with: all logits, a mask."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_federated_loss(cls_score: Tensor, labels: Tensor,
                          columns: Tensor) -> Tensor:
    """Sigmoid cross entropy of all classes, times a mask of the chosen ones.

    Args:
        cls_score (Tensor): Logits, background last, shape (n, C + 1).
        labels (Tensor): Class of each RoI, C for background, shape (n, ).
        columns (Tensor): The chosen classes, shape (k, ).

    Returns:
        Tensor: Mean over the RoIs, a scalar.

    Source: the original's ``fed_loss.py``, in our own words.
    """
    num_classes = cls_score.size(1) - 1
    targets = F.one_hot(labels, num_classes + 1)[:, :num_classes].to(cls_score)
    chosen = cls_score.new_zeros(num_classes)
    chosen[columns] = 1
    losses = F.binary_cross_entropy_with_logits(
        cls_score[:, :num_classes], targets, reduction='none')
    return (losses * chosen).sum() / max(len(labels), 1)


def masked_classifier_loss(features: Tensor, classifier: torch.nn.Linear,
                           labels: Tensor, columns: Tensor) -> Tensor:
    """The same from the features of the RoIs, shape (n, d)."""
    return masked_federated_loss(classifier(features), labels, columns)
