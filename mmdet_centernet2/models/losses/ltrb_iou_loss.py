"""IoU losses on distances to the four box sides."""

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

MODES = ('giou', 'iou', 'linear_iou')


def ltrb_iou_loss(pred: Tensor, target: Tensor, mode: str = 'giou') -> Tensor:
    """IoU loss (N, ) between boxes that share one point.

    A box is given by its distances to the left, top, right and bottom side
    from that point, (N, 4). One is added to intersection and union, in
    **stride units**, which makes small boxes much cheaper than the textbook
    GIoU. The mode is 'giou', 'iou' (negative logarithm) or 'linear_iou'.

    Source: the original's ``iou_loss.py``; docs/differences.md, 23.
    """
    intersection = _area(torch.min(pred, target))
    union = _area(pred) + _area(target) - intersection
    iou = (intersection + 1.0) / (union + 1.0)
    if mode == 'iou':
        return -iou.log()
    if mode == 'linear_iou':
        return 1 - iou
    hull = _area(torch.max(pred, target))
    return 1 - (iou - (hull - union) / hull)


def _area(ltrb: Tensor) -> Tensor:
    return (ltrb[:, 0] + ltrb[:, 2]) * (ltrb[:, 1] + ltrb[:, 3])


@MODELS.register_module()
class LTRBIoULoss(nn.Module):
    """Sum of :func:`ltrb_iou_loss` over pairs, divided by ``avg_factor``.

    Raises:
        ValueError: If ``mode`` is unknown.
    """

    def __init__(self, mode: str = 'giou', loss_weight: float = 1.0) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f'mode must be one of {MODES}, got {mode!r}')
        self.mode = mode
        self.loss_weight = loss_weight

    def forward(
        self, pred: Tensor, target: Tensor, avg_factor: Tensor, counts: Tensor | None = None
    ) -> Tensor:
        """Compute the loss in FP32; zero, with a graph, if N is zero.

        Args:
            pred: Predicted ltrb in stride units, shape (N, 4).
            target: Target ltrb in stride units, shape (N, 4).
            avg_factor: Normaliser, a scalar of at least one.
            counts: Mask (N, ) of the pairs that count, all by default; the
                targets of others must not be zero.
        """
        loss = ltrb_iou_loss(pred.float(), target.float(), self.mode)
        if counts is not None:
            loss = torch.where(counts, loss, 0.0)
        return self.loss_weight * loss.sum() / avg_factor
