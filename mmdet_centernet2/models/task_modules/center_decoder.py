"""From the maps of the CenterNet head to boxes, as pure functions."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.structures.bbox import scale_boxes
from mmdet.utils import ConfigType
from mmengine.structures import InstanceData
from torch import Tensor

from ..ops import batched_nms

#: Decoded boxes are at least this wide and high, in pixels.
MIN_BOX_SIZE = 0.01
#: Raw score of padding; its probability is zero, in half precision too.
PAD_LOGIT = -1e4


class Candidates(NamedTuple):
    """Best locations of a batch; padded entries have a score of -1.

    Args:
        boxes: xyxy in pixels, not clipped, shape (B, K, 4).
        scores: Shape (B, K).
        labels: Shape (B, K), int64.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def ltrb_to_boxes(points: Tensor, ltrb: Tensor) -> Tensor:
    """Boxes around points, at least ``MIN_BOX_SIZE`` large, **not clipped**.

    Args:
        points: (x, y) in pixels, shape (..., 2).
        ltrb: Distances to the sides in pixels, shape (..., 4).

    Returns:
        xyxy in pixels, shape (..., 4).

    Source: docs/differences.md, 26.
    """
    top_left = points - ltrb[..., :2]
    bottom_right = points + ltrb[..., 2:]
    return torch.cat([top_left, torch.max(bottom_right, top_left + MIN_BOX_SIZE)], -1)


def _best_pairs(logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, classes and cells of the best (class, cell) pairs, (B, count).

    Which of equal logits are taken may differ between memory formats.
    """
    num_classes, area = logits.size(1), logits.size(2) * logits.size(3)
    if num_classes > 1 and logits.stride(1) == 1:  # channels-last
        best, inds = logits.permute(0, 2, 3, 1).flatten(1).topk(count, dim=1)
        cells = torch.div(inds, num_classes, rounding_mode='floor')
        return best, inds - cells * num_classes, cells
    best, inds = logits.flatten(1).topk(count, dim=1)
    labels = torch.div(inds, area, rounding_mode='floor')
    return best, labels, inds - labels * area


def _padded_best_pairs(logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`_best_pairs`, padded: no shape depends on the image's size."""
    area = logits.size(2) * logits.size(3)
    pairs = F.pad(logits.flatten(1), (0, count), value=PAD_LOGIT)
    best, inds = pairs.topk(count, dim=1)
    inds = inds.clamp(max=logits.size(1) * area - 1)
    labels = torch.div(inds, area, rounding_mode='floor')
    return best, labels, inds - labels * area


def _decode_level(
    logits: Tensor,
    ltrb: Tensor,
    stride: int,
    score_thr: float,
    nms_pre: int,
    constant_k: bool = False,
) -> Candidates:
    """:func:`decode` for one level: only the best logits become boxes."""
    height, width = logits.shape[-2:]
    if constant_k:
        best, labels, cells = _padded_best_pairs(logits, nms_pre)
    else:
        best, labels, cells = _best_pairs(logits, min(nms_pre, logits.size(1) * height * width))
    scores = best.float().sigmoid()
    scores = torch.where(scores > score_thr, scores, -torch.ones_like(scores))
    distances = (
        ltrb.flatten(2).gather(2, cells[:, None].expand(-1, 4, -1)).transpose(1, 2).float() * stride
    )
    ys = torch.div(cells, width, rounding_mode='floor')
    points = torch.stack([cells - ys * width, ys], -1) * stride + stride // 2
    return Candidates(ltrb_to_boxes(points.to(distances), distances), scores, labels)


def decode(
    heat_logits: Sequence[Tensor],
    ltrbs: Sequence[Tensor],
    strides: Sequence[int],
    score_thr: float,
    nms_pre: int,
    sqrt_score: bool,
    constant_k: bool = False,
) -> Candidates:
    """Best (location, class) pairs of all levels, in FP32.

    Args:
        heat_logits: Raw scores of each level, (B, C, H, W).
        ltrbs: Distances in stride units, (B, 4, H, W).
        strides: Pixels per cell of each level.
        score_thr: Pairs with a probability (before the square root) above
            this take part.
        nms_pre: How many to keep at most, for each level and image.
        sqrt_score: Take the square root of the scores.
        constant_k: Let every level give ``nms_pre`` candidates, padded where
            it has fewer: for graphs that hold for images of any size.

    Returns:
        Levels joined along K, each ``min(nms_pre, C * H * W)`` long.
    """
    levels = [
        _decode_level(logits, ltrb, stride, score_thr, nms_pre, constant_k)
        for logits, ltrb, stride in zip(heat_logits, ltrbs, strides)
    ]
    boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*levels))
    if sqrt_score:
        scores = torch.where(scores > 0, scores.clamp(min=0).sqrt(), scores)
    return Candidates(boxes, scores, labels)


def topk_with_ties(scores: Tensor, max_num: int) -> Tensor:
    """Mask of the ``max_num`` best of sorted scores; **ties keep more**.

    Args:
        scores: Descending, shape (n, ); negative ones are padding.
        max_num: Zero or less keeps all but padding.

    Source: docs/differences.md, 37.
    """
    if 0 < max_num <= len(scores):
        return scores >= scores[max_num - 1].clamp(min=0)
    return scores >= 0


def select(candidates: Candidates, nms: ConfigType | None, max_per_img: int) -> list[InstanceData]:
    """Non-maximum suppression over all levels, image by image.

    Args:
        candidates: Of the whole batch.
        nms: Config of :func:`mmcv.ops.batched_nms`; None skips it.
        max_per_img: See :func:`topk_with_ties`.

    Returns:
        ``bboxes``, ``scores`` and ``labels`` of each image, best first.
    """
    return [_select_one(*image, nms, max_per_img) for image in zip(*candidates)]


def _select_one(
    boxes: Tensor, scores: Tensor, labels: Tensor, nms: ConfigType | None, max_per_img: int
) -> InstanceData:
    """:func:`select` for one image."""
    if not scores.is_cuda:  # there it costs a sync, here padding costs more
        valid = scores >= 0
        boxes, scores, labels = boxes[valid], scores[valid], labels[valid]
    if nms is None or not len(scores):
        scores, keep = scores.sort(descending=True)
        boxes = boxes[keep]
    else:
        dets, keep = batched_nms(boxes, scores, labels, nms, max_per_img)
        boxes, scores = dets[:, :4], dets[:, 4]
    top = topk_with_ties(scores, max_per_img).nonzero().squeeze(1)
    return InstanceData(bboxes=boxes[top], scores=scores[top], labels=labels[keep[top]])


def rescale_and_clip(results: InstanceData, img_meta: dict, rescale: bool) -> InstanceData:
    """Rescale and clip the detections of one image, and drop empty ones.

    NMS has run before, in pixels of the network input: mmdet's own heads
    rescale first (docs/differences.md, 38).

    Args:
        results: ``bboxes`` (n, 4) in pixels of the network input and whatever
            else belongs to them.
        img_meta: ``img_shape``; with ``rescale`` also ``ori_shape`` and
            ``scale_factor`` (width, height).
        rescale: Whether to return pixels of the original image.

    Returns:
        At most n detections, in the same order.
    """
    boxes, shape = results.bboxes, img_meta['img_shape']
    if rescale:
        boxes = scale_boxes(boxes, [1 / s for s in img_meta['scale_factor']])
        shape = img_meta['ori_shape']
    boxes[:, 0::2] = boxes[:, 0::2].clamp(min=0, max=shape[1])
    boxes[:, 1::2] = boxes[:, 1::2].clamp(min=0, max=shape[0])
    results.bboxes = boxes
    return results[(boxes[:, 2:] > boxes[:, :2]).all(-1)]
