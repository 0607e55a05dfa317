"""The dense methods that tests and speed.py compare the package with.

Every location against every object, a (locations x classes) heat map, all
logits and a mask, everything decoded before the best is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_centernet2.models.task_modules.center_decoder import Candidates, ltrb_to_boxes
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


def masked_federated_loss(cls_score: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
    """Sigmoid cross entropy of all classes, times a mask of the chosen ones.

    Args:
        cls_score: Logits, background last, shape (n, C + 1).
        labels: Class of each RoI, C for background, shape (n, ).
        classes: The chosen classes, shape (k, ).

    Source: the original's ``fed_loss.py``, in our own words.
    """
    num_classes = cls_score.size(1) - 1
    targets = F.one_hot(labels, num_classes + 1)[:, :num_classes].to(cls_score)
    chosen = cls_score.new_zeros(num_classes)
    chosen[classes] = 1
    losses = F.binary_cross_entropy_with_logits(
        cls_score[:, :num_classes], targets, reduction='none'
    )
    return (losses * chosen).sum() / max(len(labels), 1)


def plain_decode(
    heat_logits: Sequence[Tensor],
    ltrbs: Sequence[Tensor],
    strides: Sequence[int],
    score_thr: float,
    nms_pre: int,
    sqrt_score: bool,
) -> Candidates:
    """What ``center_decoder.decode`` gives, but for the order of ties.

    Args:
        heat_logits: Raw scores of each level, (B, C, H, W).
        ltrbs: In stride units, each (B, 4, H, W).
        strides: Pixels per cell of each level.
        score_thr: Compared with the probability.
        nms_pre: Kept for each level and image.
        sqrt_score: Take the square root of the scores.
    """
    levels = []
    for logits, ltrb, stride in zip(heat_logits, ltrbs, strides):
        num_classes = logits.size(1)
        points = cell_centers(logits.shape[-2:], stride, logits.dtype, logits.device)
        boxes = ltrb_to_boxes(points, (ltrb * stride).permute(0, 2, 3, 1).flatten(1, 2))
        scores = logits.sigmoid().permute(0, 2, 3, 1).flatten(1)
        scores = scores.masked_fill(scores <= score_thr, -1)
        scores, best = scores.topk(min(nms_pre, scores.size(1)), dim=1)
        cells = (best // num_classes)[..., None].expand(-1, -1, 4)
        levels.append((boxes.gather(1, cells), scores, best % num_classes))
    boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*levels))
    if sqrt_score:
        scores = torch.where(scores > 0, scores.clamp(min=0).sqrt(), scores)
    return Candidates(boxes, scores, labels)
