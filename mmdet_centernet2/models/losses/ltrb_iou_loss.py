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
    pred_area = (pred[:, 0] + pred[:, 2]) * (pred[:, 1] + pred[:, 3])
    target_area = (target[:, 0] + target[:, 2]) * (target[:, 1] + target[:, 3])
    inner = torch.min(pred, target)
    outer = torch.max(pred, target)
    intersection = (inner[:, 0] + inner[:, 2]) * (inner[:, 1] + inner[:, 3])
    union = pred_area + target_area - intersection
    iou = (intersection + 1.0) / (union + 1.0)
    if mode == 'iou':
        return -iou.log()
    if mode == 'linear_iou':
        return 1 - iou
    hull = (outer[:, 0] + outer[:, 2]) * (outer[:, 1] + outer[:, 3])
    return 1 - (iou - (hull - union) / hull)


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
