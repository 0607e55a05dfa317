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
    """Best locations of a batch; padded entries have a score of -1."""

    boxes: Tensor  # xyxy in pixels, not clipped, (B, K, 4)
    scores: Tensor  # (B, K)
    labels: Tensor  # (B, K), int64
    levels: Tensor  # index of the pyramid level, (B, K), int64


def ltrb_to_boxes(points: Tensor, ltrb: Tensor) -> Tensor:
    """Boxes around points (..., 2) from distances (..., 4), **not clipped**.

    All in pixels. Source: docs/differences.md, 26.
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
    level: int,
    logits: Tensor,
    ltrb: Tensor,
    stride: int,
    score_thr: float,
    nms_pre: int,
    constant_k: bool,
) -> Candidates:
    """:func:`decode` for one level: only the best logits become boxes."""
    height, width = logits.shape[-2:]
    if constant_k:
        best, labels, cells = _padded_best_pairs(logits, nms_pre)
    else:
        best, labels, cells = _best_pairs(logits, min(nms_pre, logits.size(1) * height * width))
    scores = best.float().sigmoid()
    scores = torch.where(scores > score_thr, scores, -1.0)
    distances = (
        ltrb.flatten(2).gather(2, cells[:, None].expand(-1, 4, -1)).transpose(1, 2).float() * stride
    )
    ys = torch.div(cells, width, rounding_mode='floor')
    points = torch.stack([cells - ys * width, ys], -1) * stride + stride // 2
    boxes = ltrb_to_boxes(points.to(distances), distances)
    return Candidates(boxes, scores, labels, torch.full_like(labels, level))


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
        _decode_level(level, *maps, score_thr, nms_pre, constant_k)
        for level, maps in enumerate(zip(heat_logits, ltrbs, strides))
    ]
    boxes, scores, labels, numbers = (torch.cat(parts, 1) for parts in zip(*levels))
    if sqrt_score:
        scores = torch.where(scores > 0, scores.clamp(min=0).sqrt(), scores)
    return Candidates(boxes, scores, labels, numbers)


def topk_with_ties(scores: Tensor, max_num: int) -> Tensor:
    """Mask of the ``max_num`` best of descending scores (n, ); **ties keep more**.

    Negative scores are padding. Zero or less keeps all others. Source:
    docs/differences.md, 37.
    """
    if 0 < max_num <= len(scores):
        return scores >= scores[max_num - 1].clamp(min=0)
    return scores >= 0


def select(
    candidates: Candidates, nms: ConfigType | None, max_per_img: int, keep_ties: bool = True
) -> list[InstanceData]:
    """``bboxes``, ``scores``, ``labels``, ``levels`` of each image after NMS, best first.

    ``nms`` is a config of :func:`mmcv.ops.batched_nms`; None skips it. For
    ``max_per_img`` see :func:`topk_with_ties`; without ``keep_ties`` there are
    never more.
    """
    return [_select_one(*image, nms, max_per_img, keep_ties) for image in zip(*candidates)]


def _select_one(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    levels: Tensor,
    nms: ConfigType | None,
    max_per_img: int,
    keep_ties: bool,
) -> InstanceData:
    """:func:`select` for one image."""
    if scores.device.type == 'cpu':  # elsewhere it costs a sync, here padding costs more
        valid = scores >= 0
        boxes, scores, labels, levels = (each[valid] for each in (boxes, scores, labels, levels))
    if nms is None or not len(scores):
        scores, keep = scores.sort(descending=True)
        boxes = boxes[keep]
    else:
        dets, keep = batched_nms(boxes, scores, labels, nms, max_per_img)
        boxes, scores = dets[:, :4], dets[:, 4]
    top = topk_with_ties(scores, max_per_img).nonzero().squeeze(1)
    if not keep_ties and max_per_img > 0:
        top = top[:max_per_img]
    keep = keep[top]
    return InstanceData(
        bboxes=boxes[top], scores=scores[top], labels=labels[keep], levels=levels[keep]
    )


def rescale_and_clip(results: InstanceData, img_meta: dict, rescale: bool) -> InstanceData:
    """Rescale and clip the detections of one image, and drop empty ones.

    NMS has run before: mmdet's own heads rescale first (docs/differences.md,
    38). With ``rescale`` the result is in pixels of the original image.
    """
    boxes, shape = results.bboxes, img_meta['img_shape']
    if rescale:
        boxes = scale_boxes(boxes, [1 / s for s in img_meta['scale_factor']])
        shape = img_meta['ori_shape']
    boxes[:, 0::2] = boxes[:, 0::2].clamp(min=0, max=shape[1])
    boxes[:, 1::2] = boxes[:, 1::2].clamp(min=0, max=shape[0])
    results.bboxes = boxes
    return results[(boxes[:, 2:] > boxes[:, :2]).all(-1)]
