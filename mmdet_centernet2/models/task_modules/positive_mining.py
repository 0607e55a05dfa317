"""More positives for the heat map, chosen by the predicted boxes."""
from typing import Tuple

import torch
from torch import Tensor

from ..losses.ltrb_iou_loss import ltrb_iou_loss
from .center_targets import (CENTER, BatchBoxes, assigned_levels,
                             cells_inside, center_cells, neighbours)
from .level_layout import LevelLayout

#: Cost of cells that cannot be positives.
NO_MATCH = 1e8


def _shifted_cells(gt: BatchBoxes,
                   layout: LevelLayout) -> Tuple[Tensor, Tensor]:
    """The 3x3 cells around each centre, and their ltrb to the own box.

    Returns:
        tuple[Tensor, Tensor]: Cells (x, y), (N, L, 9, 2), and distances in
        stride units, (N, L, 9, 4), negative outside the box.
    """
    strides = layout.strides[:, None]
    center = center_cells(gt.centers, layout.strides)
    points = (center * strides + strides // 2).to(gt.boxes)
    ltrb = torch.cat([
        points - gt.boxes[:, None, :2], gt.boxes[:, None, 2:] - points
    ], -1) / strides
    shift = neighbours(center.device)
    ltrb = ltrb[:, :, None] + torch.cat([shift, -shift], -1)
    return center[:, :, None] + shift, ltrb


@torch.no_grad()
def mine_positives(gt: BatchBoxes,
                   layout: LevelLayout,
                   ranges: Tensor,
                   ltrb_preds: Tensor,
                   thresh: float = 0.2,
                   topk: int = 9) -> Tuple[Tensor, Tensor]:
    """Positives among the 3x3 cells around each centre on all levels.

    A cell is positive if its predicted box costs less, in GIoU loss, than
    both ``thresh`` and the object's ``topk``-th cheapest cell. The centre
    cell of an assigned level costs nothing; neighbours need not be on an
    assigned level. Objects smaller than the way to their cell's centre
    have no positive on that level.

    Args:
        gt (BatchBoxes): The objects.
        layout (LevelLayout): Layout of the batch.
        ranges (Tensor): Half-diagonal ranges in pixels, shape (L, 2).
        ltrb_preds (Tensor): Predictions in stride units, shape (M, 4).
        thresh (float): Highest cost of a positive, exclusive.
        topk (int): Which cheapest cell limits the costs, exclusive.

    Returns:
        tuple[Tensor, Tensor]: Rows, -1 for none, and classes, each of shape
        (N * L * 9, ).

    Source: the original's ``centernet.py``; docs/differences.md, 22.
    """
    num_objects, num_levels = len(gt.boxes), len(layout.strides)
    cells, ltrb = _shifted_cells(gt, layout)
    levels = torch.arange(num_levels, device=cells.device)[:, None]
    rows = layout.rows(levels, gt.images[:, None, None], cells[..., 1],
                       cells[..., 0])
    valid = cells_inside(cells, layout.sizes[:, None]) & (ltrb >= 0).all(-1)
    preds = ltrb_preds[torch.where(valid, rows, torch.zeros_like(rows))]
    costs = ltrb_iou_loss(
        preds.reshape(-1, 4).float(),
        ltrb.clamp(min=0).reshape(-1, 4)).view(rows.shape)
    costs = torch.where(valid, costs, torch.full_like(costs, NO_MATCH))

    extents = (gt.boxes[:, 2:] - gt.boxes[:, :2])[:, None]
    centered = assigned_levels(extents, ranges) & (ltrb[:, :, CENTER]
                                                   >= 0).all(-1)
    costs[:, :, CENTER].masked_fill_(centered, 0.)
    costs = costs.view(num_objects, num_levels * 9)
    limit = costs.topk(
        min(topk, costs.size(1)), largest=False).values[:, -1:]
    rows = rows.view(num_objects, num_levels * 9)
    mined = (costs < limit.clamp(max=thresh)) & (rows >= 0) & (
        rows < layout.num_rows)
    return (torch.where(mined, rows, -1).flatten(),
            gt.labels[:, None].expand_as(rows).flatten())
