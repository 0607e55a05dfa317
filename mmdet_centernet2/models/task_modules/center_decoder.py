"""From the maps of the CenterNet head to boxes, as pure functions."""
from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmcv.ops import batched_nms
from mmdet.utils import ConfigType
from mmengine.structures import InstanceData
from torch import Tensor

from .greedy_nms import greedy_nms

#: Decoded boxes are at least this wide and high, in pixels.
MIN_BOX_SIZE = 0.01
#: Raw score of padding; its probability is zero, in half precision too.
PAD_LOGIT = -1e4
#: mmcv's settings that :func:`greedy_nms` knows.
GREEDY_NMS = {'type', 'iou_threshold', 'class_agnostic'}


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

    Source: docs/differences.md, 26.
    """
    top_left = points - ltrb[..., :2]
    bottom_right = points + ltrb[..., 2:]
    return torch.cat(
        [top_left, torch.max(bottom_right, top_left + MIN_BOX_SIZE)], -1)


def best_pairs(logits: Tensor, count: int) -> Tuple[Tensor, Tensor, Tensor]:
    """The highest (class, location) pairs of a map, without copying it.

    Args:
        logits (Tensor): Shape (B, C, H, W), contiguous or channels-last.
        count (int): How many, at most C * H * W.

    Returns:
        tuple[Tensor]: Logits, highest first, classes and cells (``y * W +
        x``), each of shape (B, count). Which of equal logits come first, and
        which of them are left out, is as little defined as in
        :func:`torch.topk`, and may differ between memory formats.
    """
    num_classes, area = logits.size(1), logits.size(2) * logits.size(3)
    if num_classes > 1 and logits.stride(1) == 1:  # channels-last
        best, inds = logits.permute(0, 2, 3, 1).flatten(1).topk(count, dim=1)
        cells = torch.div(inds, num_classes, rounding_mode='floor')
        return best, inds - cells * num_classes, cells
    best, inds = logits.flatten(1).topk(count, dim=1)
    labels = torch.div(inds, area, rounding_mode='floor')
    return best, labels, inds - labels * area


def padded_best_pairs(logits: Tensor,
                      count: int) -> Tuple[Tensor, Tensor, Tensor]:
    """:func:`best_pairs`, padded to ``count`` where there are fewer.

    For graphs that hold for images of any size: no shape depends on it.
    """
    area = logits.size(2) * logits.size(3)
    pairs = F.pad(logits.flatten(1), (0, count), value=PAD_LOGIT)
    best, inds = pairs.topk(count, dim=1)
    inds = inds.clamp(max=logits.size(1) * area - 1)
    labels = torch.div(inds, area, rounding_mode='floor')
    return best, labels, inds - labels * area


def decode_level(logits: Tensor,
                 ltrb: Tensor,
                 stride: int,
                 score_thr: float,
                 nms_pre: int,
                 constant_k: bool = False) -> Candidates:
    """Best ``nms_pre`` (location, class) pairs of one level.

    They are chosen by their logits; only theirs become probabilities and
    boxes, in FP32.

    Args:
        logits (Tensor): Raw scores, shape (B, C, H, W).
        ltrb (Tensor): Distances in stride units, shape (B, 4, H, W).
        stride (int): Pixels per cell.
        score_thr (float): Pairs with a probability above this take part.
        nms_pre (int): How many to keep at most.
        constant_k (bool): See :func:`decode`. Defaults to False.

    Returns:
        Candidates: K = min(nms_pre, C * H * W), a constant for a shape;
        scores are probabilities.
    """
    height, width = logits.shape[-2:]
    if constant_k:
        best, labels, cells = padded_best_pairs(logits, nms_pre)
    else:
        best, labels, cells = best_pairs(
            logits, min(nms_pre, logits.size(1) * height * width))
    scores = best.float().sigmoid()
    scores = torch.where(scores > score_thr, scores, -torch.ones_like(scores))
    distances = ltrb.flatten(2).gather(
        2, cells[:, None].expand(-1, 4, -1)).transpose(1, 2).float() * stride
    ys = torch.div(cells, width, rounding_mode='floor')
    points = torch.stack([cells - ys * width, ys], -1) * stride + stride // 2
    return Candidates(
        ltrb_to_boxes(points.to(distances), distances), scores, labels)


def decode(heat_logits: Sequence[Tensor],
           ltrbs: Sequence[Tensor],
           strides: Sequence[int],
           score_thr: float,
           nms_pre: int,
           sqrt_score: bool,
           constant_k: bool = False) -> Candidates:
    """Candidates of all levels.

    Args:
        heat_logits (Sequence[Tensor]): Raw scores, each (B, C, H, W).
        ltrbs (Sequence[Tensor]): Stride units, each (B, 4, H, W).
        strides (Sequence[int]): Pixels per cell of each level.
        score_thr (float): Compared with the probability, before the square
            root.
        nms_pre (int): Kept for each level and image.
        sqrt_score (bool): Take the square root of the scores.
        constant_k (bool): Let every level give ``nms_pre`` candidates,
            padded where it has fewer: for graphs that hold for images of any
            size. Defaults to False.

    Returns:
        Candidates: Levels joined along K.
    """
    levels = [
        decode_level(logits, ltrb, stride, score_thr, nms_pre, constant_k)
        for logits, ltrb, stride in zip(heat_logits, ltrbs, strides)
    ]
    boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*levels))
    if sqrt_score:
        scores = torch.where(scores > 0, scores.clamp(min=0).sqrt(), scores)
    return Candidates(boxes, scores, labels)


def kept_by_score(scores: Tensor, max_num: int) -> Tensor:
    """Mask of the ``max_num`` best of sorted scores; **ties keep more**.

    Args:
        scores (Tensor): Descending, shape (n, ); negative ones are padding.
        max_num (int): Zero or less keeps all that are no padding.

    Source: docs/differences.md, 37.
    """
    if 0 < max_num <= len(scores):
        return scores >= scores[max_num - 1].clamp(min=0)
    return scores >= 0


def nms_best_first(boxes: Tensor, scores: Tensor, labels: Tensor,
                   nms: ConfigType, enough: int) -> Tuple[Tensor, Tensor]:
    """Boxes that survive, at least the ``enough`` best and their ties.

    mmcv's NMS on a GPU, where it compares all pairs at once; on a CPU
    :func:`greedy_nms`, which stops when there are enough.

    Args:
        boxes (Tensor): xyxy in pixels, shape (n, 4).
        scores (Tensor): Shape (n, ), in any order.
        labels (Tensor): Shape (n, ).
        nms (ConfigDict or dict): See :func:`select`.
        enough (int): Zero or less means all.

    Returns:
        tuple[Tensor]: (x1, y1, x2, y2, score), best first, shape (m, 5), and
        their indices, shape (m, ).
    """
    if scores.device.type != 'cpu' or set(nms) - GREEDY_NMS or (
            nms.get('type', 'nms') != 'nms'):
        return batched_nms(boxes, scores, labels, nms)
    scores, order = scores.sort(descending=True)
    groups = labels[order]
    if nms.get('class_agnostic', False):
        groups = torch.zeros_like(groups)
    keep = greedy_nms(boxes[order], scores, groups, nms['iou_threshold'],
                      enough)
    order = order[keep]
    return torch.cat([boxes[order], scores[keep, None]], 1), order


def select(candidates: Candidates, nms: Optional[ConfigType],
           max_per_img: int) -> List[InstanceData]:
    """Non-maximum suppression over all levels of each image.

    Images one by one: joined, they would have to be moved apart, where
    coordinates lose precision, and on a CPU boxes of different images would
    be compared in vain.

    Args:
        candidates (Candidates): Of the whole batch.
        nms (ConfigDict or dict, optional): Config of
            :func:`mmcv.ops.batched_nms`; None skips it.
        max_per_img (int): See :func:`kept_by_score`.

    Returns:
        list[InstanceData]: ``bboxes``, ``scores`` and ``labels`` of each
        image, best score first.
    """
    return [
        _select_one(*image, nms, max_per_img) for image in zip(*candidates)
    ]


def _select_one(boxes: Tensor, scores: Tensor, labels: Tensor,
                nms: Optional[ConfigType], max_per_img: int) -> InstanceData:
    """:func:`select` for one image."""
    if not scores.is_cuda:  # padding costs time; leaving it out, on a GPU too
        valid = scores >= 0
        boxes, scores, labels = boxes[valid], scores[valid], labels[valid]
    if nms is None or not len(scores):
        scores, keep = scores.sort(descending=True)
        boxes = boxes[keep]
    else:
        dets, keep = nms_best_first(boxes, scores, labels, nms, max_per_img)
        boxes, scores = dets[:, :4], dets[:, 4]
    top = kept_by_score(scores, max_per_img).nonzero().squeeze(1)
    return InstanceData(
        bboxes=boxes[top], scores=scores[top], labels=labels[keep[top]])
