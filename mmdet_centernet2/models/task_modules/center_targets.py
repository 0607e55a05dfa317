"""Training targets of the CenterNet head, for a whole batch at once.

Memory grows with locations plus cells near objects, not with locations times
objects. There is one device-host sync; all other shapes are known, and
entries that do not apply have row -1. Rows number the
cells of all levels, level-major, then image, then y, then x::

    row = B * sum(H_k * W_k for k < level) + image * H * W + y * W + x

What may surprise is the original's: docs/differences.md, 17 to 21.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..losses.ltrb_iou_loss import ltrb_iou_loss
from .to_device import to_device

#: Heat-map values below this are set to zero.
MIN_HEAT = 1e-4
#: Columns and rows from a cell to those around it, and the index of the cell itself.
AROUND = np.array([(dx, dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
CENTER = 4
#: Cost of cells that cannot be positives.
NO_MATCH = 1e8
#: Where boxes without area are moved to, in pixels: off every map.
OFF_MAP = -1e7


class LevelLayout(NamedTuple):
    """Shapes and row offsets of a batch of multi-level maps, as int64."""

    sizes: Tensor  # (H, W) of each level's map in cells, (L, 2)
    strides: Tensor  # pixels per cell of each level, (L, )
    starts: Tensor  # first row of each level, (L, )
    areas: Tensor  # cells of each level's map, (L, )
    batch_size: int
    num_rows: int  # ``M = B * sum(H * W)``

    @classmethod
    def build(
        cls,
        featmap_sizes: Sequence[Sequence[int]],
        strides: Sequence[int],
        batch_size: int,
        device: torch.device,
    ) -> 'LevelLayout':
        """The layout for maps of sizes (H, W).

        Raises:
            ValueError: If the numbers of levels differ.
        """
        if len(featmap_sizes) != len(strides):
            raise ValueError(
                f'got {len(featmap_sizes)} feature maps but {len(strides)} strides; `strides` '
                'of the head must name one stride for each level that the neck returns'
            )
        sizes = np.array(featmap_sizes).reshape(-1, 2).T
        areas = sizes.prod(0)
        ends = batch_size * areas.cumsum()
        table = to_device(np.stack([*sizes, strides, ends - batch_size * areas, areas]), device)
        return cls(table[:2].T, table[2], table[3], table[4], batch_size, int(ends[-1]))

    def rows(self, levels: Tensor, images: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
        """Rows of cells; all arguments broadcast, no range check."""
        return self.starts[levels] + images * self.areas[levels] + ys * self.sizes[levels, 1] + xs

    def elements(self, rows: Tensor, labels: Tensor, num_classes: int) -> Tensor:
        """Indices into the flattened and concatenated (B, C, H, W) heat maps, or -1, (K, ).

        ``C * start + (image * C + label) * H * W + y * W + x`` with the start and
        size of the level of each of ``rows`` (K, ).
        """
        if num_classes == 1:
            return rows
        levels = (torch.searchsorted(self.starts, rows, right=True) - 1).clamp_(min=0)
        areas = self.areas.index_select(0, levels)
        starts = self.starts.index_select(0, levels)
        images = torch.div(rows - starts, areas, rounding_mode='floor')
        others = (images * (num_classes - 1) + labels) * areas
        elements = rows + starts * (num_classes - 1) + others
        return torch.where(rows < 0, rows, elements)


def flatten_levels(maps: Sequence[Tensor]) -> Tensor:
    """Flatten maps (B, C, H, W) into rows (M, C) of a :class:`LevelLayout`."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(-1, level.size(1)) for level in maps])


class BatchBoxes(NamedTuple):
    """All objects of a batch, in image order."""

    boxes: Tensor  # xyxy in pixels of the network input, (N, 4)
    labels: Tensor  # class of each object, (N, ), int64
    images: Tensor  # image of each object, (N, ), int64

    @classmethod
    def collate(cls, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> 'BatchBoxes':
        """Join the boxes (n_i, 4) and labels (n_i, ) of each image.

        Boxes without area are moved off the maps, where they take no part:
        leaving them out would cost a device-host sync.
        """
        images = np.repeat(np.arange(len(boxes)), [len(each) for each in boxes])
        joined = torch.cat([each.reshape(-1, 4) for each in boxes]).float()
        has_area = (joined[:, 2:] > joined[:, :2]).all(1, keepdim=True)
        return cls(
            torch.where(has_area, joined, OFF_MAP),
            torch.cat(list(labels)).long(),
            to_device(images, joined.device),
        )

    @property
    def centers(self) -> Tensor:
        """Box centres (x, y) in pixels, shape (N, 2)."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    def assigned_levels(self, ranges: Tensor) -> Tensor:
        """Whether each object's half diagonal is in each range of (L, 2), (N, L)."""
        return _in_range((self.boxes[:, 2:] - self.boxes[:, :2])[:, None], ranges)


class CenterTargets(NamedTuple):
    """What the losses need; ``inds`` are rows of :class:`LevelLayout`, or -1."""

    heat_inds: Tensor  # rows with heat; where one is repeated, the highest counts, (K, )
    heat_labels: Tensor  # their heat maps, (K, )
    heat_values: Tensor  # in [0, 1], (K, )
    pos_inds: Tensor  # rows of positives, duplicates kept, (P, )
    pos_labels: Tensor  # (P, )
    reg_inds: Tensor  # rows with a regression target, none twice, (R, )
    reg_targets: Tensor  # their ltrb in stride units, ones for -1, (R, 4)


def _squared_radii(boxes: Tensor, min_overlap: float, min_radius: float) -> Tensor:
    """Squared Gaussian radius of each box in square pixels, (N, ).

    A box shifted by the radius keeps an IoU of about ``min_overlap``.
    """
    delta = (1 - min_overlap) / (1 + min_overlap)
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(-1)
    return (delta**2 * 2 * (width * height)).clamp(min=min_radius**2)


def _cells_inside(cells: Tensor, sizes: Tensor) -> Tensor:
    """Whether cells (x, y) lie on maps of sizes (H, W)."""
    return ((cells >= 0) & (cells < sizes.flip(-1))).all(-1)


def _in_range(extents: Tensor, ranges: Tensor) -> Tensor:
    """Whether half the diagonal of (width, height) is in a closed range."""
    half_diagonal = (extents**2).sum(-1) ** 0.5 / 2
    return (half_diagonal >= ranges[..., 0]) & (half_diagonal <= ranges[..., 1])


def _cells_around(gt: BatchBoxes, layout: LevelLayout) -> tuple[Tensor, Tensor]:
    """(x, y) of the 3x3 cells around each centre, (N, L, 9, 2), and their rows, unchecked."""
    centers = torch.trunc(gt.centers[:, None] / layout.strides[:, None]).long()
    cells = centers[:, :, None] + to_device(AROUND, gt.boxes.device)
    levels = torch.arange(len(layout.strides), device=cells.device)[:, None]
    return cells, layout.rows(levels, gt.images[:, None, None], cells[..., 1], cells[..., 0])


def _gaussian_heat(
    gt: BatchBoxes, layout: LevelLayout, radii2: Tensor, peaks: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, labels and values of ``exp(-|p - c|^2 / r^2)`` around each object, (K, ).

    One at ``peaks`` (N, L, 2), the cells of the centres, some of which are off
    the map; zero below 1e-4.
    """
    # exp(-d^2 / r^2) >= MIN_HEAT  <=>  d <= r * sqrt(-log(MIN_HEAT))
    reach = (radii2 * -math.log(MIN_HEAT)).sqrt()[:, None, None] + 1e-2
    strides = layout.strides[:, None]
    offset = gt.centers[:, None] - strides // 2
    # first and last (x, y) with heat, (N, L, 2); the peak has some, however far
    low = torch.min(((offset - reach) / strides).ceil(), peaks).clamp(min=0).long()
    high = torch.max(((offset + reach) / strides).floor(), peaks)
    high = torch.min(high, layout.sizes.flip(-1) - 1).long()
    spans = (high - low + 1).clamp(min=0)
    low, spans, peaks = (each.flatten(0, 1) for each in (low, spans, peaks))
    counts = spans.prod(-1)
    total = int(counts.sum())  # the one device-host sync
    pairs = torch.repeat_interleave(counts, output_size=total)  # of object and level
    objects = torch.div(pairs, len(layout.strides), rounding_mode='floor')
    levels = pairs - objects * len(layout.strides)
    inner = torch.arange(total, device=pairs.device) - (counts.cumsum(0) - counts)[pairs]
    width = spans[pairs, 0]
    down = torch.div(inner, width, rounding_mode='floor')
    cells = low[pairs] + torch.stack([inner - down * width, down], -1)  # (K, 2)
    strides = layout.strides[levels, None]
    dx, dy = (cells * strides + strides // 2 - gt.centers[objects]).unbind(-1)
    same_x, same_y = (cells == peaks[pairs]).unbind(-1)
    dist2 = (dx**2 + dy**2).masked_fill_(same_x & same_y, 0.0)
    heat = torch.exp(-dist2 / radii2[objects])
    heat = torch.where(heat < MIN_HEAT, 0.0, heat)
    rows = layout.rows(levels, gt.images[objects], cells[:, 1], cells[:, 0])
    return rows, gt.labels[objects], heat


def _positives(
    gt: BatchBoxes, layout: LevelLayout, rows: Tensor, chosen: Tensor
) -> tuple[Tensor, Tensor]:
    """Rows (N, ...), -1 where not chosen or where there is none, and classes, both flat."""
    chosen = chosen & (rows >= 0) & (rows < layout.num_rows)
    labels = gt.labels[:, None].expand_as(rows.flatten(1))
    return torch.where(chosen, rows, -1).flatten(), labels.flatten()


def _regression_targets(
    gt: BatchBoxes, layout: LevelLayout, ranges: Tensor, cells: Tensor, rows: Tensor, radii2: Tensor
) -> tuple[Tensor, Tensor]:
    """``reg_inds`` and ``reg_targets`` among the 3x3 cells around each centre.

    A location regresses to an object if it lies strictly inside the box, on a
    level that the object is assigned to. Among several objects the smallest
    ``|p - c|^2 / r^2`` wins (zero at an object's own peak), the first object
    on ties.
    """
    strides = layout.strides[:, None, None]
    points = (cells * strides + strides // 2).to(gt.boxes)
    boxes = gt.boxes[:, None, None]
    ltrb = torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1)
    candidate = (
        _cells_inside(cells, layout.sizes[:, None])
        & (ltrb.amin(-1) > 0)
        & _in_range(ltrb[..., :2] + ltrb[..., 2:], ranges[:, None])
    )
    dist2 = ((points - gt.centers[:, None, None]) ** 2).sum(-1)
    dist2[:, :, CENTER].zero_()
    rows = torch.where(candidate, rows, -1)
    wins = _cheapest_of_row(rows, dist2 / radii2[:, None, None], layout.num_rows)
    targets = torch.where(wins[..., None], ltrb / strides, 1.0)
    return torch.where(wins, rows, -1).flatten(), targets.view(-1, 4)


def _cheapest_of_row(rows: Tensor, costs: Tensor, num_rows: int) -> Tensor:
    """Mask of the cheapest candidate of each row (-1: none), first on ties."""
    objects = torch.arange(len(rows), device=rows.device).view(-1, *[1] * (rows.dim() - 1))
    # The bits of numbers that are not negative are in the numbers' order.
    bids = ((costs.view(torch.int32).long() << 32) | objects).flatten()
    slots = rows.flatten() + 1  # the first one for what is no candidate
    best = bids.new_full((num_rows + 1,), torch.iinfo(bids.dtype).max)
    best.scatter_reduce_(0, slots, bids, 'amin')
    return ((best[slots] == bids) & (slots > 0)).view(rows.shape)


@torch.no_grad()
def center_targets(
    gt: BatchBoxes,
    layout: LevelLayout,
    ranges: Tensor,
    num_classes: int = 1,
    min_overlap: float = 0.8,
    min_radius: float = 4.0,
) -> CenterTargets:
    """All targets of a batch, without gradient.

    Args:
        gt: The objects.
        layout: Layout of the batch.
        ranges: Half-diagonal ranges in pixels, both ends inclusive, shape (L, 2).
        num_classes: Number of heat maps; with one, labels are ignored.
        min_overlap: IoU that a box shifted by the Gaussian radius keeps.
        min_radius: Smallest radius in pixels, on all levels.

    Source: CenterNet2 paper (arXiv 2103.07461), its one-stage CenterNet.
    """
    if num_classes == 1:
        gt = gt._replace(labels=torch.zeros_like(gt.labels))
    radii2 = _squared_radii(gt.boxes, min_overlap, min_radius)
    cells, rows = _cells_around(gt, layout)
    # The cell may lie outside the box, or off the map: any row that exists is one.
    positives = _positives(gt, layout, rows[:, :, CENTER], gt.assigned_levels(ranges))
    regression = _regression_targets(gt, layout, ranges, cells, rows, radii2)
    heat = _gaussian_heat(gt, layout, radii2, cells[:, :, CENTER])
    return CenterTargets(*heat, *positives, *regression)


@torch.no_grad()
def mine_positives(
    gt: BatchBoxes,
    layout: LevelLayout,
    ranges: Tensor,
    ltrb_preds: Tensor,
    thresh: float = 0.2,
    topk: int = 9,
) -> tuple[Tensor, Tensor]:
    """Positives among the 3x3 cells around each centre on all levels.

    A cell is positive if its predicted box costs less, in GIoU loss, than
    both ``thresh`` and the object's ``topk``-th cheapest cell. The centre
    cell of an assigned level costs nothing; neighbours need not be on an
    assigned level. Objects smaller than the way to their cell's centre
    have no positive on that level.

    Args:
        gt, layout, ranges: See :func:`center_targets`.
        ltrb_preds: Predictions in stride units, shape (M, 4).
        thresh: Highest cost of a positive, exclusive.
        topk: Which cheapest cell limits the costs, exclusive.

    Returns:
        ``pos_inds`` and ``pos_labels``, each of shape (N * L * 9, ).

    Source: the original's ``centernet.py``; docs/differences.md, 22.
    """
    cells, rows = _cells_around(gt, layout)
    strides = layout.strides[:, None]
    points = (cells[:, :, CENTER] * strides + strides // 2).to(gt.boxes)
    boxes = gt.boxes[:, None]
    center_ltrb = torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1) / strides
    shifts = to_device(np.concatenate([AROUND, -AROUND], 1), cells.device)
    ltrb = center_ltrb[:, :, None] + shifts
    valid = _cells_inside(cells, layout.sizes[:, None]) & (ltrb >= 0).all(-1)
    preds = ltrb_preds[torch.where(valid, rows, 0)]
    costs = ltrb_iou_loss(preds.reshape(-1, 4).float(), ltrb.clamp(min=0).reshape(-1, 4))
    costs = torch.where(valid, costs.view(rows.shape), NO_MATCH)

    centered = gt.assigned_levels(ranges) & (center_ltrb >= 0).all(-1)
    costs[:, :, CENTER].masked_fill_(centered, 0.0)
    costs, rows = costs.flatten(1), rows.flatten(1)
    limit = costs.topk(min(topk, costs.size(1)), largest=False).values[:, -1:]
    return _positives(gt, layout, rows, costs < limit.clamp(max=thresh))
