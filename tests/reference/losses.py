"""Losses of the first stage, term by term.

The numbers may be floats or scalar double tensors; with tensors the results
can be differentiated.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Loss = Tensor


def _number(x) -> Tensor:
    return torch.as_tensor(x, dtype=torch.float64)


def probability(logit) -> Tensor:
    """Sigmoid of a logit, kept within [1e-4, 1 - 1e-4]."""
    return torch.clamp(1 / (1 + torch.exp(-_number(logit))), 1e-4, 1 - 1e-4)


def positive_term(logit) -> Tensor:
    """Heat-map loss of one positive location."""
    p = probability(logit)
    return -torch.log(p) * (1 - p) ** 2


def negative_term(logit, target: float, ignore_above: float) -> Tensor:
    """Heat-map loss of one location as a negative.

    Nil where the probability is ``ignore_above`` or more, if that is > 0.
    """
    p = probability(logit)
    if ignore_above > 0 and p >= ignore_above:
        return 0 * p
    return -torch.log(1 - p) * p**2 * (1 - target) ** 4


def heatmap_losses(
    logits: Sequence,
    targets: Sequence[float],
    positives: Sequence[int],
    ignore_above: float = -1.0,
    alpha: float = 0.25,
) -> tuple[Loss, Loss]:
    """Positive and negative sums over one channel, weighted by alpha only."""
    pos, neg = _number(0.0), _number(0.0)
    for i in positives:
        pos = pos + positive_term(logits[i])
    for logit, target in zip(logits, targets):
        neg = neg + negative_term(logit, target, ignore_above)
    return (pos * alpha, neg * (1 - alpha)) if alpha >= 0 else (pos, neg)


def ious(predicted: Sequence, target: Sequence) -> tuple[Tensor, Tensor]:
    """Smoothed IoU and its generalised form of two ltrb."""
    p, t = [_number(v) for v in predicted], [_number(v) for v in target]
    low = [torch.minimum(a, b) for a, b in zip(p, t)]
    high = [torch.maximum(a, b) for a, b in zip(p, t)]
    inter = (low[0] + low[2]) * (low[1] + low[3])
    hull = (high[0] + high[2]) * (high[1] + high[3])
    areas = (p[0] + p[2]) * (p[1] + p[3]) + (t[0] + t[2]) * (t[1] + t[3])
    union = areas - inter
    iou = (inter + 1) / (union + 1)
    return iou, iou - (hull - union) / hull


def giou_loss(predicted: Sequence, target: Sequence) -> Tensor:
    """1 - GIoU of two ltrb."""
    return 1 - ious(predicted, target)[1]


def iou_loss(predicted: Sequence, target: Sequence) -> Tensor:
    """-log IoU of two ltrb."""
    return -torch.log(ious(predicted, target)[0])


def linear_iou_loss(predicted: Sequence, target: Sequence) -> Tensor:
    """1 - IoU of two ltrb."""
    return 1 - ious(predicted, target)[0]


def first_stage_losses(
    logits: Sequence,
    predicted: Sequence[Sequence],
    heats: Sequence[float],
    regression: Sequence[Sequence[float] | None],
    positives: list[int],
) -> tuple[Loss, Loss, Loss]:
    """All losses of the two-stage models' first stage, on one process.

    Args:
        logits: Of every cell of the batch, in the flat order.
        predicted: ltrb of every cell, in stride units.
        heats: Heat-map target of every cell.
        regression: ltrb target of every cell in stride units, or None.
        positives: Flat indices, with repetitions.

    Returns:
        tuple: Regression, positive and negative heat-map loss.
    """
    pos, neg = heatmap_losses(logits, heats, positives, ignore_above=0.85)
    count = max(len(positives), 1)
    loc = _number(0.0)
    cells = [i for i, target in enumerate(regression) if target is not None]
    for i in cells:
        loc = loc + giou_loss(predicted[i], regression[i])
    return loc / max(len(cells), 1), 0.5 * pos / count, 0.5 * neg / count
