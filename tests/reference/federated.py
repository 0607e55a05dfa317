"""Federated loss, one RoI and one class at a time."""

from collections.abc import Collection, Sequence
from math import exp, log1p


def federated_loss(
    logits: Sequence[Sequence[float]], labels: Sequence[int], chosen: Collection[int]
) -> float:
    """Sum of the chosen classes' cross entropies over the number of RoIs.

    Args:
        logits: Of each RoI and class, the last of them the background's.
        labels: Of each RoI; the number of classes for background.
        chosen: Classes with mask one.
    """
    num_classes = len(logits[0]) - 1
    total = 0.0
    for row, label in zip(logits, labels):
        for c in range(num_classes):
            if c in chosen:
                total += softplus(-row[c] if c == label else row[c])
    return total / len(labels)


def softplus(x: float) -> float:
    """``log(1 + exp(x))``: minus the log of ``sigmoid(-x)``."""
    return max(x, 0.0) + log1p(exp(-abs(x)))


def pair_probabilities(weights: Sequence[float]) -> dict[tuple[int, int], float]:
    """Probability of each pair when two are drawn one after the other.

    Args:
        weights: Relative probability of each class to be drawn first.
    """
    p = [w / sum(weights) for w in weights]
    return {
        (i, j): p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        for i in range(len(p))
        for j in range(i + 1, len(p))
        if p[i] and p[j]
    }
