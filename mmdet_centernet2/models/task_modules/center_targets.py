"""Training targets of the CenterNet head, as pure functions.

Everything is computed for the whole batch at once, and only for cells near
objects: work and memory grow with locations plus such cells, neither with
locations times objects nor with locations times classes. A GPU is waited for
once: how many cells are near objects is the shape of what follows
(:func:`gaussian_heat`). Everything else is of a shape that is known without
looking, and what does not apply in it is marked with row -1.

All functions follow the original exactly, traps included
(docs/differences.md, 17 to 21):

* every object has a peak on **every** level, assigned or not;
* level ranges are inclusive and overlap, an object may be positive on two
  levels and then counts twice;
* radii are in image pixels on all levels;
* a location must lie strictly inside a box to regress to it;
* base positives ignore whether the cell lies inside the box.
"""
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from .level_layout import LevelLayout

#: Heat-map values below this are set to zero.
MIN_HEAT = 1e-4
#: The cell itself among its nine :func:`neighbours`.
CENTER = 4


class BatchBoxes(NamedTuple):
    """All objects of a batch, in image order.

    Args:
        boxes (Tensor): xyxy in pixels of the network input, shape (N, 4).
        labels (Tensor): Class of each object, shape (N, ), int64.
        images (Tensor): Image of each object, shape (N, ), int64.
    """
    boxes: Tensor
    labels: Tensor
    images: Tensor

    @classmethod
    def collate(cls, boxes: Sequence[Tensor],
                labels: Sequence[Tensor]) -> 'BatchBoxes':
        """Join the objects of each image.

        Args:
            boxes (Sequence[Tensor]): xyxy of each image, (n_i, 4).
            labels (Sequence[Tensor]): Classes of each image, (n_i, ).
        """
        images = [
            torch.full((len(b), ), i, dtype=torch.long, device=b.device)
            for i, b in enumerate(boxes)
        ]
        return cls(
            torch.cat([b.reshape(-1, 4) for b in boxes]).float(),
            torch.cat([lab.reshape(-1) for lab in labels]).long(),
            torch.cat(images))

    def agnostic(self) -> 'BatchBoxes':
        """The same objects, all of class zero."""
        return self._replace(labels=torch.zeros_like(self.labels))

    @property
    def centers(self) -> Tensor:
        """Box centres (x, y) in pixels, shape (N, 2)."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2


class SparseHeat(NamedTuple):
    """The heat map where it is not zero, and some cells where it is.

    Args:
        rows (Tensor): Shape (K, ), int64.
        labels (Tensor): Heat map of each, shape (K, ), int64.
        values (Tensor): In [0, 1]. The same cell of the same map may be
            listed several times: **the highest value counts**. Shape (K, ).
    """
    rows: Tensor
    labels: Tensor
    values: Tensor


@dataclass
class CenterTargets:
    """What the CenterNet losses need; rows are those of ``LevelLayout``.

    Args:
        heat (SparseHeat): The Gaussian heat maps.
        pos_inds (Tensor): Rows of positives, duplicates kept, and -1 where
            there is none, shape (P, ).
        pos_labels (Tensor): Class of each positive, shape (P, ).
        reg_inds (Tensor): Rows with a regression target, none twice, and -1
            where there is none, shape (R, ).
        reg_targets (Tensor): Their ltrb in stride units, shape (R, 4); ones
            where there is none.
    """
    heat: SparseHeat
    pos_inds: Tensor
    pos_labels: Tensor
    reg_inds: Tensor
    reg_targets: Tensor


def squared_radii(boxes: Tensor, min_overlap: float,
                  min_radius: float) -> Tensor:
    """Squared Gaussian radius of each box in square pixels, shape (N, ).

    ``max(2 delta^2 area, min_radius^2)`` with
    ``delta = (1 - min_overlap) / (1 + min_overlap)``; the minimum is in
    pixels on all levels.

    Args:
        boxes (Tensor): xyxy in pixels, shape (N, 4).
        min_overlap (float): IoU that a box shifted by the radius keeps.
        min_radius (float): Smallest radius in pixels.
    """
    delta = (1 - min_overlap) / (1 + min_overlap)
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(-1)
    return (delta**2 * 2 * (width * height)).clamp(min=min_radius**2)


def center_cells(centers: Tensor, strides: Tensor) -> Tensor:
    """Cell of each centre on each level, truncated toward zero.

    Args:
        centers (Tensor): (x, y) in pixels, shape (N, 2).
        strides (Tensor): Shape (L, ).

    Returns:
        Tensor: (x, y) in cells, shape (N, L, 2), int64; may lie outside.
    """
    return torch.trunc(centers[:, None] / strides[:, None]).long()


def cells_inside(cells: Tensor, sizes: Tensor) -> Tensor:
    """Whether cells lie on their level's map.

    Args:
        cells (Tensor): (x, y), shape (..., 2).
        sizes (Tensor): (H, W), broadcastable to ``cells``.
    """
    return ((cells >= 0) & (cells < sizes.flip(-1))).all(-1)


def assigned_levels(extents: Tensor, ranges: Tensor) -> Tensor:
    """Which levels an object of a given size belongs to.

    The criterion is half the diagonal, both ends of a range are inclusive,
    ranges may overlap or leave gaps.

    Args:
        extents (Tensor): Width and height in pixels, shape (..., 2).
        ranges (Tensor): Lowest and highest half diagonal in pixels, shape
            (..., 2), broadcastable to ``extents``.

    Returns:
        Tensor: Boolean, shape (...).
    """
    half_diagonal = (extents**2).sum(-1)**0.5 / 2
    return (half_diagonal >= ranges[..., 0]) & (half_diagonal <= ranges[..., 1])


@lru_cache(maxsize=None)
def neighbours(device: torch.device) -> Tensor:
    """Steps to the 3x3 cells around a cell, dx running fastest.

    Returns:
        Tensor: (dx, dy), shape (9, 2), int64; the fifth is no step at all.
    """
    with torch.inference_mode(False):
        return torch.tensor([(dx, dy) for dy in (-1, 0, 1)
                             for dx in (-1, 0, 1)], device=device)


class _Windows(NamedTuple):
    """For each object and level the cells that its heat may reach.

    Args:
        low (Tensor): First column and row, shape (N, L, 2), float.
        spans (Tensor): Columns and rows, shape (N, L, 2), float; zero if
            there are none.
        peaks (Tensor): Number of the centre's cell in the window, row by
            row, shape (N, L), int64; -1 if it is not on the map.
    """
    low: Tensor
    spans: Tensor
    peaks: Tensor


def _windows(gt: BatchBoxes, radii2: Tensor, layout: LevelLayout) -> _Windows:
    """Cells with a value in the heat map, and at most a cell or so more.

    Args:
        gt (BatchBoxes): The objects.
        radii2 (Tensor): Squared radii in square pixels, shape (N, ).
        layout (LevelLayout): Layout of the batch.
    """
    centers, strides = gt.centers[:, None], layout.strides[:, None]
    # exp(-d^2 / r^2) >= MIN_HEAT  <=>  d <= r * sqrt(-log(MIN_HEAT))
    reach = (radii2 * -math.log(MIN_HEAT)).sqrt()[:, None, None] + 1e-2
    offset = centers - strides // 2
    cells = torch.trunc(centers / strides)  # always a peak, however far
    low = torch.min(((offset - reach) / strides).ceil(), cells).clamp(min=0)
    high = torch.max(((offset + reach) / strides).floor(), cells)
    last = layout.sizes.flip(-1) - 1
    spans = (torch.min(high, last.to(high)) - low + 1).clamp(min=0)
    peaks = (cells[..., 1] - low[..., 1]) * spans[..., 0] + (
        cells[..., 0] - low[..., 0])
    inside = ((cells >= 0) & (cells <= last)).all(-1)
    return _Windows(low, spans, torch.where(inside, peaks, -1).long())


def gaussian_heat(gt: BatchBoxes,
                  layout: LevelLayout,
                  min_overlap: float = 0.8,
                  min_radius: float = 4.0) -> SparseHeat:
    """Heat of all objects on all levels.

    ``h(p) = max_j exp(-|p - c_j|^2 / r_j^2)``, one at the cell that holds
    the centre, zero below 1e-4.

    Args:
        gt (BatchBoxes): The objects; those of one class share a map.
        layout (LevelLayout): Layout of the batch.
        min_overlap (float): See :func:`squared_radii`. Defaults to 0.8.
        min_radius (float): In pixels. Defaults to 4.

    Returns:
        SparseHeat: Float32; one value for each object and cell in its reach.
    """
    radii2 = squared_radii(gt.boxes, min_overlap, min_radius)
    windows = _windows(gt, radii2, layout)
    counts = (windows.spans[..., 0] * windows.spans[..., 1]).long().flatten()
    total = int(counts.sum())  # the one host synchronisation
    begins = counts.cumsum(0) - counts
    pairs = torch.repeat_interleave(counts, output_size=total)
    objects = torch.div(pairs, len(layout.strides), rounding_mode='floor')

    first_rows = layout.starts + gt.images[:, None] * layout.areas
    begin, width, x, y, stride, row, row_width = torch.stack([
        begins.view_as(first_rows), *windows.spans[..., :1].long().unbind(-1),
        *windows.low.long().unbind(-1),
        layout.strides.expand_as(first_rows), first_rows,
        layout.sizes[:, 1].expand_as(first_rows)
    ], -1).view(-1, 7).index_select(0, pairs).unbind(-1)
    inner = torch.arange(total, device=counts.device) - begin
    down = torch.div(inner, width, rounding_mode='floor')
    x, y = x + inner - down * width, y + down

    center_x, center_y, radius2 = torch.cat(
        [gt.centers, radii2[:, None]], -1).index_select(0, objects).unbind(-1)
    dist2 = (x * stride + stride // 2 - center_x)**2 + (
        y * stride + stride // 2 - center_y)**2
    heat = dist2.new_empty(total + 1)  # the last takes peaks off the maps
    torch.exp(-dist2 / radius2, out=heat[:total])
    heat = torch.where(heat < MIN_HEAT, 0., heat)
    peaks = windows.peaks.flatten()
    heat.index_fill_(0, torch.where(peaks < 0, total, begins + peaks), 1.)
    return SparseHeat(row + y * row_width + x,
                      gt.labels.index_select(0, objects), heat[:total])


def center_positives(gt: BatchBoxes, layout: LevelLayout,
                     ranges: Tensor) -> Tuple[Tensor, Tensor]:
    """One positive for each object and level that it is assigned to.

    The order is image, object, level; duplicates are kept. Whether the cell
    lies in the box, or even on the map, is not asked; only row numbers that
    no tensor has are left out.

    Args:
        gt (BatchBoxes): The objects.
        layout (LevelLayout): Layout of the batch.
        ranges (Tensor): Half-diagonal ranges in pixels, shape (L, 2).

    Returns:
        tuple[Tensor, Tensor]: Rows, -1 for none, and classes, each of shape
        (N * L, ).
    """
    extents = gt.boxes[:, 2:] - gt.boxes[:, :2]
    assigned = assigned_levels(extents[:, None], ranges)
    xs, ys = center_cells(gt.centers, layout.strides).unbind(-1)
    levels = torch.arange(len(ranges), device=ranges.device)
    rows = layout.rows(levels, gt.images[:, None], ys, xs)
    exists = assigned & (rows >= 0) & (rows < layout.num_rows)
    return (torch.where(exists, rows, -1).flatten(),
            gt.labels[:, None].expand_as(rows).flatten())


def regression_targets(gt: BatchBoxes,
                       layout: LevelLayout,
                       ranges: Tensor,
                       min_overlap: float = 0.8,
                       min_radius: float = 4.0) -> Tuple[Tensor, Tensor]:
    """Distances to the box sides for the 3x3 cells around each centre.

    A location regresses to an object if it lies strictly inside the box, at
    most one cell from the centre's cell in x and in y, on a level that the
    object is assigned to. Among several objects the smallest
    ``|p - c|^2 / r^2`` wins (zero at an object's own peak), the first object
    on ties.

    Args:
        gt (BatchBoxes): The objects.
        layout (LevelLayout): Layout of the batch.
        ranges (Tensor): Half-diagonal ranges in pixels, shape (L, 2).
        min_overlap (float): See :func:`squared_radii`. Defaults to 0.8.
        min_radius (float): In pixels. Defaults to 4.

    Returns:
        tuple[Tensor, Tensor]: Rows, -1 for none, shape (N * L * 9, ), and
        their ltrb in stride units, ones for none, shape (N * L * 9, 4).
    """
    around = neighbours(gt.boxes.device)
    center = center_cells(gt.centers, layout.strides)
    cells = center[:, :, None] + around  # (N, L, 9, 2)
    strides = layout.strides[:, None, None]
    points = (cells * strides + strides // 2).to(gt.boxes)
    boxes = gt.boxes[:, None, None]
    ltrb = torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1)

    extents = ltrb[..., :2] + ltrb[..., 2:]
    candidate = (
        cells_inside(cells, layout.sizes[:, None])
        & (ltrb.amin(-1) > 0)
        & assigned_levels(extents, ranges[:, None]))
    dist2 = ((points - gt.centers[:, None, None])**2).sum(-1)
    dist2[:, :, CENTER].zero_()
    radii2 = squared_radii(gt.boxes, min_overlap, min_radius)
    costs = dist2 / radii2[:, None, None]

    levels = torch.arange(len(ranges), device=ranges.device)[:, None]
    images = gt.images[:, None, None]
    rows = layout.rows(levels, images, cells[..., 1], cells[..., 0])
    rows = torch.where(candidate, rows, -1)
    wins = _cheapest_of_row(rows, costs, layout.num_rows)
    targets = torch.where(wins[..., None], ltrb / strides, 1.)
    return torch.where(wins, rows, -1).flatten(), targets.view(-1, 4)


def _cheapest_of_row(rows: Tensor, costs: Tensor, num_rows: int) -> Tensor:
    """Which candidates win their row: the cheapest, the first on ties.

    Args:
        rows (Tensor): First index the object, -1 for none, shape (N, ...).
        costs (Tensor): Not negative, float32, of the same shape.
        num_rows (int): Number of rows.

    Returns:
        Tensor: Boolean, of the same shape.
    """
    objects = torch.arange(len(rows), device=rows.device).view(
        -1, *[1] * (rows.dim() - 1))
    # The bits of numbers that are not negative are in the numbers' order.
    bids = ((costs.view(torch.int32).long() << 32) | objects).flatten()
    slots = rows.flatten() + 1  # the first one for what is no candidate
    best = bids.new_full((num_rows + 1, ), torch.iinfo(bids.dtype).max)
    best.scatter_reduce_(0, slots, bids, 'amin')
    return ((best[slots] == bids) & (slots > 0)).view(rows.shape)


@torch.no_grad()
def center_targets(gt: BatchBoxes,
                   layout: LevelLayout,
                   ranges: Tensor,
                   num_classes: int = 1,
                   min_overlap: float = 0.8,
                   min_radius: float = 4.0) -> CenterTargets:
    """All targets of a batch.

    Args:
        gt (BatchBoxes): The objects.
        layout (LevelLayout): Layout of the batch.
        ranges (Tensor): Half-diagonal ranges in pixels, shape (L, 2).
        num_classes (int): Number of heat maps. One map means class-agnostic:
            labels are not looked at. Defaults to 1.
        min_overlap (float): See :func:`squared_radii`. Defaults to 0.8.
        min_radius (float): In pixels. Defaults to 4.

    Returns:
        CenterTargets: Without gradient.

    Source: CenterNet2 paper (arXiv 2103.07461), its one-stage CenterNet.
    """
    if num_classes == 1:
        gt = gt.agnostic()
    pos_inds, pos_labels = center_positives(gt, layout, ranges)
    reg_inds, reg_targets = regression_targets(gt, layout, ranges, min_overlap,
                                               min_radius)
    heat = gaussian_heat(gt, layout, min_overlap, min_radius)
    return CenterTargets(heat, pos_inds, pos_labels, reg_inds, reg_targets)
