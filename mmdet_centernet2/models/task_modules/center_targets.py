"""Training targets of the CenterNet head, as pure functions.

Everything is computed for the whole batch at once, and only for cells near
objects: work and memory grow with what is written, not with locations times
objects. All functions follow the original exactly, traps included:

* every object has a peak on **every** level, assigned or not (Q21);
* level ranges are inclusive and overlap, an object may be positive on two
  levels and then counts twice (Q22);
* radii are in image pixels on all levels (Q23);
* a location must lie strictly inside a box to regress to it (Q24);
* base positives ignore whether the cell lies inside the box (Q25).
"""
import math
from dataclasses import dataclass
from typing import NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from .level_layout import LevelLayout

#: Heat-map values below this are set to zero (spec §3.3).
MIN_HEAT = 1e-4


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


@dataclass
class CenterTargets:
    """What the CenterNet losses need; rows are those of ``LevelLayout``.

    Args:
        heatmap (Tensor): Gaussian heat map, shape (M, C).
        pos_inds (Tensor): Rows of positives, duplicates kept, shape (P, ).
        pos_labels (Tensor): Class of each positive, shape (P, ).
        reg_inds (Tensor): Rows with a regression target, shape (R, ).
        reg_targets (Tensor): Their ltrb in stride units, shape (R, 4).
    """
    heatmap: Tensor
    pos_inds: Tensor
    pos_labels: Tensor
    reg_inds: Tensor
    reg_targets: Tensor


def squared_radii(boxes: Tensor, min_overlap: float,
                  min_radius: float) -> Tensor:
    """Squared Gaussian radius of each box in square pixels, shape (N, ).

    ``max(2 delta^2 area, min_radius^2)`` with
    ``delta = (1 - min_overlap) / (1 + min_overlap)``; the minimum is in
    pixels on all levels (spec §3.3, Q23).

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
    ranges may overlap or leave gaps (spec §3.2, Q22).

    Args:
        extents (Tensor): Width and height in pixels, shape (..., L or 1, 2).
        ranges (Tensor): Lowest and highest half diagonal of each level in
            pixels, shape (L, 2).

    Returns:
        Tensor: Boolean, shape (..., L).
    """
    half_diagonal = (extents**2).sum(-1)**0.5 / 2
    return (half_diagonal >= ranges[:, 0]) & (half_diagonal <= ranges[:, 1])


def _near_pairs(centers: Tensor, radii2: Tensor,
                layout: LevelLayout) -> Tuple[Tensor, ...]:
    """Every (object, level, cell) close enough for a value in the heat map.

    Args:
        centers (Tensor): (x, y) in pixels, shape (N, 2).
        radii2 (Tensor): Squared radii in square pixels, shape (N, ).
        layout (LevelLayout): Layout of the batch.

    Returns:
        tuple[Tensor]: Objects, levels, ys and xs, each of shape (K, ). A
        superset, by a cell or so, of the values of at least ``MIN_HEAT``.
    """
    strides = layout.strides
    # exp(-d^2 / r^2) >= MIN_HEAT  <=>  d <= r * sqrt(-log(MIN_HEAT))
    reach = (radii2 * -math.log(MIN_HEAT)).sqrt()[:, None, None] + 1e-2
    offset = centers[:, None] - (strides // 2)[:, None]
    low = ((offset - reach) / strides[:, None]).ceil().long().clamp(min=0)
    high = ((offset + reach) / strides[:, None]).floor().long()
    spans = (torch.min(high, layout.sizes.flip(-1) - 1) - low + 1).clamp(min=0)

    counts = (spans[..., 0] * spans[..., 1]).flatten()
    total = int(counts.sum())  # the one host synchronisation
    groups = torch.repeat_interleave(counts, output_size=total)
    inner = torch.arange(total, device=centers.device) - (
        counts.cumsum(0) - counts)[groups]
    width = spans[..., 0].flatten()[groups]
    ys = low[..., 1].flatten()[groups] + inner // width
    xs = low[..., 0].flatten()[groups] + inner % width
    num_levels = len(strides)
    return groups // num_levels, groups % num_levels, ys, xs


def gaussian_heatmap(gt: BatchBoxes,
                     layout: LevelLayout,
                     num_classes: int,
                     min_overlap: float = 0.8,
                     min_radius: float = 4.0) -> Tensor:
    """Heat map of all objects on all levels.

    ``h(p) = max_j exp(-|p - c_j|^2 / r_j^2)``, one at the cell that holds
    the centre, zero below 1e-4.

    Args:
        gt (BatchBoxes): The objects.
        layout (LevelLayout): Layout of the batch.
        num_classes (int): Number of maps, C. One map means class-agnostic:
            labels are not looked at.
        min_overlap (float): See :func:`squared_radii`. Defaults to 0.8.
        min_radius (float): In pixels. Defaults to 4.

    Returns:
        Tensor: Shape (M, C), float32.

    Source: spec §3.3, Q21, Q23.
    """
    if num_classes == 1:
        gt = gt.agnostic()
    radii2 = squared_radii(gt.boxes, min_overlap, min_radius)
    objects, levels, ys, xs = _near_pairs(gt.centers, radii2, layout)
    strides = layout.strides[levels]
    points = torch.stack([xs, ys], -1) * strides[:, None] + (
        strides // 2)[:, None]
    dist2 = ((points - gt.centers[objects])**2).sum(-1)
    heat = torch.exp(-dist2 / radii2[objects])
    heat = torch.where(heat < MIN_HEAT, torch.zeros_like(heat), heat)
    rows = layout.rows(levels, gt.images[objects], ys, xs)

    peak_objects, peak_rows = _peaks(gt, layout)
    rows = torch.cat([rows, peak_rows])
    columns = torch.cat([gt.labels[objects], gt.labels[peak_objects]])
    heat = torch.cat([heat, heat.new_ones(len(peak_rows))])
    heatmap = heat.new_zeros(layout.num_rows * num_classes)
    heatmap.scatter_reduce_(0, rows * num_classes + columns, heat, 'amax')
    return heatmap.view(layout.num_rows, num_classes)


def _peaks(gt: BatchBoxes, layout: LevelLayout) -> Tuple[Tensor, Tensor]:
    """Objects and rows of the centre cells that lie on their maps."""
    cells = center_cells(gt.centers, layout.strides)
    objects, levels = cells_inside(cells, layout.sizes).nonzero(as_tuple=True)
    xs, ys = cells[objects, levels].unbind(-1)
    return objects, layout.rows(levels, gt.images[objects], ys, xs)


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
        tuple[Tensor, Tensor]: Rows and classes, each of shape (P, ).

    Source: spec §3.5 (i), Q22, Q25.
    """
    extents = (gt.boxes[:, 2:] - gt.boxes[:, :2])[:, None]
    objects, levels = assigned_levels(extents, ranges).nonzero(as_tuple=True)
    cells = center_cells(gt.centers, layout.strides)[objects, levels]
    rows = layout.rows(levels, gt.images[objects], cells[:, 1], cells[:, 0])
    exists = (rows >= 0) & (rows < layout.num_rows)
    return rows[exists], gt.labels[objects][exists]


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
        tuple[Tensor, Tensor]: Rows in ascending order, shape (R, ), and
        their ltrb in stride units, shape (R, 4).

    Source: spec §3.4, Q24.
    """
    steps = torch.arange(-1, 2, device=gt.boxes.device)
    around = torch.cartesian_prod(steps, steps).flip(-1)  # dx runs fastest
    center = center_cells(gt.centers, layout.strides)
    cells = center[:, :, None] + around  # (N, L, 9, 2)
    strides = layout.strides[:, None, None]
    points = (cells * strides + strides // 2).to(gt.boxes)
    boxes = gt.boxes[:, None, None]
    ltrb = torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1)

    extents = (ltrb[..., :2] + ltrb[..., 2:]).transpose(1, 2)  # (N, 9, L, 2)
    candidate = (
        cells_inside(cells, layout.sizes[:, None])
        & (ltrb.amin(-1) > 0)
        & assigned_levels(extents, ranges).transpose(1, 2))
    objects, levels, k = candidate.nonzero(as_tuple=True)
    dist2 = ((points - gt.centers[:, None, None])**2).sum(-1)
    dist2 = torch.where((around == 0).all(-1), torch.zeros_like(dist2), dist2)
    radii2 = squared_radii(gt.boxes, min_overlap, min_radius)
    costs = (dist2 / radii2[:, None, None])[objects, levels, k]
    xs, ys = cells[objects, levels, k].unbind(-1)
    rows = layout.rows(levels, gt.images[objects], ys, xs)

    wins = _cheapest_per_row(rows, costs, objects, layout.num_rows)
    rows, order = rows[wins].sort()
    targets = ltrb[objects, levels, k] / layout.strides[levels][:, None]
    return rows, targets[wins][order]


def _cheapest_per_row(rows: Tensor, costs: Tensor, objects: Tensor,
                      num_rows: int) -> Tensor:
    """Mask of the cheapest pair of each row, the first object on ties."""
    best = costs.new_full((num_rows, ), math.inf)
    best.scatter_reduce_(0, rows, costs, 'amin')
    cheapest = costs == best[rows]
    last = torch.iinfo(objects.dtype).max
    candidates = torch.where(cheapest, objects, torch.full_like(objects, last))
    first = objects.new_full((num_rows, ), last)
    first.scatter_reduce_(0, rows, candidates, 'amin')
    return candidates == first[rows]


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
        num_classes (int): Number of heat maps. Defaults to 1, agnostic.
        min_overlap (float): See :func:`squared_radii`. Defaults to 0.8.
        min_radius (float): In pixels. Defaults to 4.

    Returns:
        CenterTargets: Without gradient.

    Source: CenterNet2 paper, section 4; spec §3.
    """
    if num_classes == 1:
        gt = gt.agnostic()
    pos_inds, pos_labels = center_positives(gt, layout, ranges)
    reg_inds, reg_targets = regression_targets(gt, layout, ranges, min_overlap,
                                               min_radius)
    heatmap = gaussian_heatmap(gt, layout, num_classes, min_overlap,
                               min_radius)
    return CenterTargets(heatmap, pos_inds, pos_labels, reg_inds, reg_targets)
