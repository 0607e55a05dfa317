"""From the maps of the CenterNet head to boxes, as pure functions."""
from typing import List, NamedTuple, Optional, Sequence

import torch
from mmcv.ops import batched_nms
from mmdet.utils import ConfigType
from mmengine.structures import InstanceData
from torch import Tensor

from .level_layout import cell_centers

#: Decoded boxes are at least this wide and high, in pixels (spec §5.1).
MIN_BOX_SIZE = 0.01


class Candidates(NamedTuple):
    """Best locations of a batch; padded entries have a score of -1.

    Args:
        boxes (Tensor): xyxy in pixels, not clipped, shape (B, K, 4).
        scores (Tensor): Shape (B, K).
        labels (Tensor): Shape (B, K), int64.
    """
    boxes: Tensor
    scores: Tensor
    labels: Tensor


def ltrb_to_boxes(points: Tensor, ltrb: Tensor) -> Tensor:
    """Boxes around points, at least ``MIN_BOX_SIZE`` large, **not clipped**.

    Args:
        points (Tensor): (x, y) in pixels, shape (..., 2).
        ltrb (Tensor): Distances to the sides in pixels, shape (..., 4).

    Returns:
        Tensor: xyxy in pixels, shape (..., 4).

    Source: spec §5.1, Q10.
    """
    top_left = points - ltrb[..., :2]
    bottom_right = points + ltrb[..., 2:]
    return torch.cat(
        [top_left, torch.max(bottom_right, top_left + MIN_BOX_SIZE)], -1)


def decode_level(heat: Tensor, ltrb: Tensor, stride: int, score_thr: float,
                 nms_pre: int) -> Candidates:
    """Best ``nms_pre`` (location, class) pairs of one level.

    Args:
        heat (Tensor): Probabilities, shape (B, C, H, W).
        ltrb (Tensor): Distances in stride units, shape (B, 4, H, W).
        stride (int): Pixels per cell.
        score_thr (float): Pairs with a heat above this take part.
        nms_pre (int): How many to keep at most.

    Returns:
        Candidates: K = min(nms_pre, C * H * W), a constant for a shape;
        scores are heats.
    """
    batch, num_classes = heat.shape[:2]
    scores = heat.permute(0, 2, 3, 1).reshape(batch, -1)
    scores, best = scores.topk(min(nms_pre, scores.size(1)), dim=1)
    scores = torch.where(scores > score_thr, scores, -torch.ones_like(scores))
    cells = torch.div(best, num_classes, rounding_mode='floor')
    points = cell_centers(heat.shape[-2:], stride, ltrb.dtype, ltrb.device)
    distances = ltrb.flatten(2).transpose(1, 2).gather(
        1, cells[..., None].expand(-1, -1, 4)) * stride
    return Candidates(
        ltrb_to_boxes(points[cells], distances), scores, best % num_classes)


def decode(heats: Sequence[Tensor], ltrbs: Sequence[Tensor],
           strides: Sequence[int], score_thr: float, nms_pre: int,
           sqrt_score: bool) -> Candidates:
    """Candidates of all levels.

    Args:
        heats (Sequence[Tensor]): Probabilities of each level (B, C, H, W).
        ltrbs (Sequence[Tensor]): Stride units, each (B, 4, H, W).
        strides (Sequence[int]): Pixels per cell of each level.
        score_thr (float): Compared with the heat, before the square root.
        nms_pre (int): Kept for each level and image.
        sqrt_score (bool): Take the square root of the scores (Q7).

    Returns:
        Candidates: Levels joined along K.

    Source: spec §5.1.
    """
    levels = [
        decode_level(heat, ltrb, stride, score_thr, nms_pre)
        for heat, ltrb, stride in zip(heats, ltrbs, strides)
    ]
    boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*levels))
    if sqrt_score:
        scores = torch.where(scores > 0, scores.clamp(min=0).sqrt(), scores)
    return Candidates(boxes, scores, labels)


def keep_top(scores: Tensor, max_num: int) -> Tensor:
    """Mask of the ``max_num`` best scores; **ties keep more** (Q47).

    Args:
        scores (Tensor): Shape (n, ).
        max_num (int): Zero or less keeps all.
    """
    if max_num <= 0 or len(scores) <= max_num:
        return torch.ones_like(scores, dtype=torch.bool)
    return scores >= scores.topk(max_num).values[-1]


def select(candidates: Candidates, nms: Optional[ConfigType],
           max_per_img: int) -> List[InstanceData]:
    """Non-maximum suppression over all levels of each image.

    Args:
        candidates (Candidates): Of the whole batch.
        nms (ConfigDict or dict, optional): Config of
            :func:`mmcv.ops.batched_nms`; None skips it.
        max_per_img (int): See :func:`keep_top`.

    Returns:
        list[InstanceData]: ``bboxes``, ``scores`` and ``labels`` of each
        image, best score first.
    """
    results = []
    for boxes, scores, labels in zip(*candidates):
        valid = scores >= 0
        boxes, scores, labels = boxes[valid], scores[valid], labels[valid]
        if len(boxes):
            dets, keep = batched_nms(boxes, scores, labels, nms)
            boxes, scores, labels = dets[:, :4], dets[:, 4], labels[keep]
        top = keep_top(scores, max_per_img)
        results.append(
            InstanceData(
                bboxes=boxes[top], scores=scores[top], labels=labels[top]))
    return results
