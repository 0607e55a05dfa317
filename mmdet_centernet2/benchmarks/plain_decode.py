"""Decoding as it is usually written, to compare with."""
from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from mmdet_centernet2.models.task_modules.center_decoder import (
    Candidates, ltrb_to_boxes)
from mmdet_centernet2.models.task_modules.level_layout import cell_centers


def plain_decode(heat_logits: Sequence[Tensor], ltrbs: Sequence[Tensor],
                 strides: Sequence[int], score_thr: float, nms_pre: int,
                 sqrt_score: bool) -> Candidates:
    """Everything for every location, then the best of it.

    The same candidates as ``center_decoder.decode`` gives, but for the order
    of equal scores.

    Args:
        heat_logits (Sequence[Tensor]): Raw scores, each (B, C, H, W).
        ltrbs (Sequence[Tensor]): Stride units, each (B, 4, H, W).
        strides (Sequence[int]): Pixels per cell of each level.
        score_thr (float): Compared with the probability.
        nms_pre (int): Kept for each level and image.
        sqrt_score (bool): Take the square root of the scores.

    Returns:
        Candidates: Levels joined along K.
    """
    levels = [
        _plain_level(logits.sigmoid(), ltrb * stride, stride, score_thr,
                     nms_pre)
        for logits, ltrb, stride in zip(heat_logits, ltrbs, strides)
    ]
    boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*levels))
    if sqrt_score:
        scores = torch.where(scores > 0, scores.clamp(min=0).sqrt(), scores)
    return Candidates(boxes, scores, labels)


def _plain_level(heat: Tensor, distances: Tensor, stride: int,
                 score_thr: float, nms_pre: int) -> Candidates:
    batch, num_classes = heat.shape[:2]
    points = cell_centers(heat.shape[-2:], stride, heat.dtype, heat.device)
    boxes = ltrb_to_boxes(points, distances.permute(0, 2, 3, 1).flatten(1, 2))
    scores = heat.permute(0, 2, 3, 1).reshape(batch, -1)
    scores = torch.where(scores > score_thr, scores, -torch.ones_like(scores))
    scores, best = scores.topk(min(nms_pre, scores.size(1)), dim=1)
    cells = best // num_classes
    boxes = boxes.gather(1, cells[..., None].expand(-1, -1, 4))
    return Candidates(boxes, scores, best % num_classes)
