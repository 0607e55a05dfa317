"""The dense methods that tests and speed.py compare the package with.

Every location against every object, a (locations x classes) heat map, the
logits of all classes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_centernet2.models.task_modules.center_targets import BatchBoxes, LevelLayout

#: Weighted distance of what a location must not regress to.
FAR = 1e8


def cell_centers(
    size: tuple[int, int], stride: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """(x, y) of a level's cells in pixels, row by row, shape (H * W, 2)."""
    ys, xs = (torch.arange(n, dtype=dtype, device=device) * stride for n in size)
    ys, xs = torch.meshgrid(ys, xs, indexing='ij')
    return torch.stack([xs, ys], dim=-1).reshape(-1, 2) + stride // 2


class DenseTargets(NamedTuple):
    """Targets of a batch; rows are those of ``LevelLayout``.

    Args:
        heatmap: Shape (M, C), float32.
        pos_inds: Rows of positives, duplicates kept, shape (P, ).
        pos_labels: Class of each positive, shape (P, ).
        reg_inds: Rows with a regression target, ascending, (R, ).
        reg_targets: Their ltrb in stride units, shape (R, 4).
    """

    heatmap: Tensor
    pos_inds: Tensor
    pos_labels: Tensor
    reg_inds: Tensor
    reg_targets: Tensor


class _Locations(NamedTuple):
    """All locations of one image: points (P, 2), strides (P, 1) in pixels,
    and half-diagonal ranges (P, 2)."""

    points: Tensor
    strides: Tensor
    ranges: Tensor


def _locations(sizes: list[tuple[int, int]], strides: list[int], ranges: Tensor) -> _Locations:
    points = [
        cell_centers(size, stride, torch.float32, ranges.device)
        for size, stride in zip(sizes, strides)
    ]
    return _Locations(
        torch.cat(points),
        torch.cat([p.new_full((len(p), 1), stride) for p, stride in zip(points, strides)]),
        torch.cat([r.expand(len(p), 2) for p, r in zip(points, ranges)]),
    )


def _heatmap(wd: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Heat maps (P, C) from weighted distances (P, N), class by class."""
    heatmap = wd.new_zeros(len(wd), num_classes)
    if num_classes == 1:
        labels = torch.zeros_like(labels)
    for label in labels.unique().tolist():
        nearest = wd[:, labels == label].min(dim=1).values
        heatmap[:, label] = torch.exp(-nearest)
    heatmap[heatmap < 1e-4] = 0
    return heatmap


def _image_targets(
    boxes: Tensor, labels: Tensor, at: _Locations, num_classes: int, delta: float, min_radius: float
) -> tuple[Tensor, Tensor]:
    """Heat maps (P, C) and ltrb in pixels (P, 4), -inf where there is none."""
    points, strides = at.points, at.strides
    if not len(boxes):
        return (
            points.new_zeros(len(points), num_classes),
            points.new_full((len(points), 4), -math.inf),
        )
    ltrb = torch.cat(
        [points[:, None] - boxes[None, :, :2], boxes[None, :, 2:] - points[:, None]], -1
    )  # (P, N, 4)
    centers = ((boxes[:, :2] + boxes[:, 2:]) / 2)[None]  # (1, N, 2)
    cells = (
        torch.trunc(centers / strides[:, None]) * strides[:, None] + (strides // 2)[:, None]
    )  # (P, N, 2)
    from_cell = (points[:, None] - cells).abs()
    is_peak = (from_cell == 0).all(-1)
    is_near = (from_cell <= strides[:, None]).all(-1)
    is_inside = ltrb.min(-1).values > 0
    half_diagonal = ((ltrb[..., :2] + ltrb[..., 2:]) ** 2).sum(-1) ** 0.5 / 2
    is_assigned = (half_diagonal >= at.ranges[:, :1]) & (half_diagonal <= at.ranges[:, 1:])

    dist2 = ((points[:, None] - centers) ** 2).sum(-1)
    dist2[is_peak] = 0
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(-1)
    radii2 = (delta**2 * 2 * (width * height)).clamp(min=min_radius**2)
    wd = dist2 / radii2  # (P, N)
    heatmap = _heatmap(wd, labels, num_classes)

    wd[~(is_near & is_inside & is_assigned)] = FAR
    cheapest, owner = wd.min(dim=1)
    owned = ltrb[torch.arange(len(points), device=owner.device), owner]
    owned[cheapest == FAR] = -math.inf
    return heatmap, owned


def _positives(gt: BatchBoxes, layout: LevelLayout, ranges: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and classes of the centre cells on the objects' levels."""
    extents = gt.boxes[:, 2:] - gt.boxes[:, :2]
    half_diagonal = ((extents**2).sum(-1) ** 0.5 / 2)[:, None]
    objects, levels = (
        ((half_diagonal >= ranges[:, 0]) & (half_diagonal <= ranges[:, 1])).nonzero().unbind(1)
    )
    cells = torch.trunc(gt.centers[objects] / layout.strides[levels][:, None]).long()
    rows = layout.rows(levels, gt.images[objects], cells[:, 1], cells[:, 0])
    exists = (rows >= 0) & (rows < layout.num_rows)
    return rows[exists], gt.labels[objects][exists]


def _level_major(per_image: list[Tensor], areas: list[int]) -> Tensor:
    """Join images, each (P, ...), in the order of ``LevelLayout``."""
    split = [image.split(areas) for image in per_image]
    return torch.cat([torch.cat(level) for level in zip(*split)])


@torch.no_grad()
def dense_center_targets(
    gt: BatchBoxes,
    layout: LevelLayout,
    ranges: Tensor,
    num_classes: int = 1,
    min_overlap: float = 0.8,
    min_radius: float = 4.0,
) -> DenseTargets:
    """All targets of a batch, image by image, locations x objects.

    Args:
        gt: The objects.
        layout: Layout of the batch.
        ranges: Half-diagonal ranges in pixels, shape (L, 2).
        num_classes: Number of heat maps. Defaults to 1, agnostic.
        min_overlap: IoU that fixes the Gaussian radius.
        min_radius: In pixels.

    Source: the original's ``centernet.py``, in our own words.
    """
    sizes, strides = layout.sizes.tolist(), layout.strides.tolist()
    at = _locations(sizes, strides, ranges)
    delta = (1 - min_overlap) / (1 + min_overlap)
    images = []
    for image in range(layout.batch_size):
        mine = gt.images == image
        images.append(
            _image_targets(gt.boxes[mine], gt.labels[mine], at, num_classes, delta, min_radius)
        )
    heatmaps, ltrbs = zip(*images)
    areas = [height * width for height, width in sizes]
    reg = _level_major([ltrb / at.strides for ltrb in ltrbs], areas)
    reg_inds = (reg.max(dim=1).values >= 0).nonzero().squeeze(1)
    pos_inds, pos_labels = _positives(gt, layout, ranges)
    if num_classes == 1:
        pos_labels = torch.zeros_like(pos_labels)
    return DenseTargets(
        _level_major(heatmaps, areas), pos_inds, pos_labels, reg_inds, reg[reg_inds]
    )


@torch.no_grad()
def blocked_center_targets(
    gt: BatchBoxes,
    layout: LevelLayout,
    ranges: Tensor,
    num_classes: int = 1,
    min_overlap: float = 0.8,
    min_radius: float = 4.0,
) -> DenseTargets:
    """What :func:`dense_center_targets` gives, as fast as a dense method gets.

    Squared distances are sums of one part per column and one per row, in
    blocks of rows that stay in the cache; regression looks at a level's own
    objects only. See there for the arguments.
    """
    delta = (1 - min_overlap) / (1 + min_overlap)
    width_height = gt.boxes[:, 2:] - gt.boxes[:, :2]
    scales = 1 / (delta**2 * 2 * width_height.prod(1)).clamp(min=min_radius**2)
    half_diagonals = width_height.square().sum(1).sqrt() / 2
    heatmaps, inds, ltrbs, first_row = [], [], [], 0
    for size, stride, level_range in zip(
        layout.sizes.tolist(), layout.strides.tolist(), ranges.tolist()
    ):
        on_level = (half_diagonals >= level_range[0]) & (half_diagonals <= level_range[1])
        for image in range(layout.batch_size):
            mine = gt.images == image
            level = _Level(size, stride, ranges.device)
            heatmap = ranges.new_zeros(*size, num_classes)
            labels = gt.labels if num_classes > 1 else torch.zeros_like(gt.labels)
            for label in labels[mine].unique().tolist():
                chosen = mine & (labels == label)
                nearest, _ = level.nearest(gt.boxes[chosen], scales[chosen])
                heatmap[..., label] = torch.exp(-nearest)
            heatmap[heatmap < 1e-4] = 0
            heatmaps.append(heatmap.view(-1, num_classes))
            chosen = mine & on_level
            if chosen.any():
                cost, owner = level.nearest(gt.boxes[chosen], scales[chosen], near=True)
                cells = (cost < FAR).view(-1).nonzero().squeeze(1)
                points = cell_centers(size, stride, torch.float32, ranges.device)[cells]
                boxes = gt.boxes[chosen][owner.view(-1)[cells]]
                ltrbs.append(torch.cat([points - boxes[:, :2], boxes[:, 2:] - points], 1) / stride)
                inds.append(cells + first_row)
            first_row += size[0] * size[1]
    pos_inds, pos_labels = _positives(gt, layout, ranges)
    if num_classes == 1:
        pos_labels = torch.zeros_like(pos_labels)
    return DenseTargets(
        torch.cat(heatmaps),
        pos_inds,
        pos_labels,
        torch.cat(inds) if inds else pos_inds.new_zeros(0),
        torch.cat(ltrbs) if ltrbs else ranges.new_zeros(0, 4),
    )


class _Level:
    """Cells of one level of one image."""

    block = 2**18  #: Distances that are computed at a time.

    def __init__(self, size: tuple[int, int], stride: int, device: torch.device) -> None:
        self.size, self.stride = size, stride
        self.ys, self.xs = (torch.arange(n, device=device) * stride + stride // 2 for n in size)

    def nearest(self, boxes: Tensor, scales: Tensor, near: bool = False) -> tuple[Tensor, Tensor]:
        """Weighted distance of each cell's nearest object and which it is, (H, W).

        ``near`` leaves out cells outside a box or not beside its centre cell.
        """
        columns, rows = (self._along(boxes, scales, axis, near) for axis in (0, 1))
        peak_x, peak_y = (
            torch.trunc((boxes[:, i] + boxes[:, i + 2]) / 2 / self.stride).long() for i in (0, 1)
        )
        width = self.size[1]
        order = torch.arange(len(boxes), device=boxes.device)
        own = (peak_x >= 0) & (peak_y >= 0) & (peak_x < width) & (peak_y < self.size[0])
        if near:  # a thin box may lie between the cells
            own &= columns[peak_x.clamp(0, width - 1), order] < FAR
            own &= rows[peak_y.clamp(0, self.size[0] - 1), order] < FAR
        peaks = order.new_full(self.size, len(boxes))  # the first object of each cell
        cells = (peak_y * width + peak_x)[own]
        peaks.view(-1).scatter_reduce_(0, cells, order[own], 'amin')
        step = max(self.block // (width * len(boxes)), 1)
        found = [(part[:, None] + columns).min(-1) for part in rows.split(step)]
        cost, owner = (torch.cat(parts) for parts in zip(*found))
        is_peak = peaks < len(boxes)
        return cost.masked_fill(is_peak, 0), torch.where(is_peak, peaks, owner)

    def _along(self, boxes: Tensor, scales: Tensor, axis: int, near: bool) -> Tensor:
        """The part of the distance along one axis, (cells, objects)."""
        cells = (self.xs, self.ys)[axis][:, None]
        low, high = boxes[:, axis], boxes[:, axis + 2]
        center = (low + high) / 2
        part = (cells - center).square() * scales
        if near:
            own = torch.trunc(center / self.stride) * self.stride + self.stride // 2
            allowed = (cells > low) & (cells < high) & ((cells - own).abs() <= self.stride)
            part = part.masked_fill(~allowed, FAR)
        return part


def dense_heatmap_loss(
    logits: Tensor,
    heatmap: Tensor,
    pos_inds: Tensor,
    pos_labels: Tensor,
    avg_factor: Tensor,
    alpha: float = 0.25,
    beta: float = 4.0,
    gamma: float = 2.0,
    clamp: float = 1e-4,
    ignore_high_fp: float = -1.0,
    pos_weight: float = 1.0,
    neg_weight: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The heat-map loss from a dense target.

    Args:
        logits: Raw scores, shape (M, C).
        heatmap: Targets in [0, 1], shape (M, C).
        pos_inds: Rows of the positives, shape (P, ).
        pos_labels: Columns of the positives, shape (P, ).
        avg_factor: Normaliser, a scalar.
        alpha, beta, gamma, clamp, ignore_high_fp, pos_weight, neg_weight:
            See ``HeatmapFocalLoss``.

    Returns:
        Positive and negative loss, scalars.

    Source: the original's ``heatmap_focal_loss.py``, in our own words.
    """
    probs = logits.float().sigmoid().clamp(clamp, 1 - clamp)
    pos = probs[pos_inds, pos_labels]
    pos_loss = -(pos.log() * (1 - pos) ** gamma).sum()
    weights = (1 - heatmap) ** beta
    if ignore_high_fp > 0:
        weights = weights * (probs.detach() < ignore_high_fp)
    neg_loss = -((1 - probs).log() * probs**gamma * weights).sum()
    if alpha >= 0:
        pos_loss, neg_loss = alpha * pos_loss, (1 - alpha) * neg_loss
    return (pos_weight * pos_loss / avg_factor, neg_weight * neg_loss / avg_factor)


def dense_federated_loss(
    cls_score: Tensor, labels: Tensor, classes: Tensor, masked: bool = True
) -> Tensor:
    """Sigmoid cross entropy of the chosen classes, from the logits of all.

    Args:
        cls_score: Logits, background last, shape (n, C + 1).
        labels: Class of each RoI, C for background, shape (n, ).
        classes: The chosen classes, shape (k, ).
        masked: Compute it for all classes and mask it, as the original does;
            else select the chosen logits first.

    Source: the original's ``fed_loss.py``, in our own words.
    """
    if not masked:
        targets = (labels[:, None] == classes).to(cls_score)
        losses = F.binary_cross_entropy_with_logits(
            cls_score.index_select(1, classes), targets, reduction='sum'
        )
        return losses / max(len(labels), 1)
    num_classes = cls_score.size(1) - 1
    targets = F.one_hot(labels, num_classes + 1)[:, :num_classes].to(cls_score)
    chosen = cls_score.new_zeros(num_classes)
    chosen[classes] = 1
    losses = F.binary_cross_entropy_with_logits(
        cls_score[:, :num_classes], targets, reduction='none'
    )
    return (losses * chosen).sum() / max(len(labels), 1)
