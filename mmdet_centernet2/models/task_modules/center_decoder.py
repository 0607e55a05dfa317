"""From the maps of the CenterNet head to boxes, as pure functions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.structures.bbox import scale_boxes
from mmdet.utils import ConfigType
from mmengine.structures import InstanceData
from torch import Tensor

from ..layers import disable_compile
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


def _best_pairs(logits: Tensor, count: int, padded: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, classes and cells of the best (class, cell) pairs, (B, count).

    Which of equal logits are taken may differ between memory formats. If
    ``padded``, there may be less of them and no shape depends on the image's size.
    """
    num_classes, area = logits.size(1), logits.size(2) * logits.size(3)
    if not padded and num_classes > 1 and logits.stride(1) == 1:  # channels-last
        best, inds = logits.permute(0, 2, 3, 1).flatten(1).topk(count, dim=1)
        cells = torch.div(inds, num_classes, rounding_mode='floor')
        return best, inds - cells * num_classes, cells
    pairs = logits.flatten(1)
    if padded:
        pairs = F.pad(pairs, (0, count), value=PAD_LOGIT)
    best, inds = pairs.topk(count, dim=1)
    if padded:
        inds = inds.clamp(max=num_classes * area - 1)
    labels = torch.div(inds, area, rounding_mode='floor')
    return best, labels, inds - labels * area


def decode(
    heat_logits: Sequence[Tensor],
    ltrbs: Sequence[Tensor],
    strides: Sequence[int],
    score_thr: float,
    nms_pre: int,
    sqrt_score: bool,
    constant_k: bool = False,
) -> Candidates:
    """Best (location, class) pairs of all levels, in FP32; only they become boxes.

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

    Source: docs/differences.md, 26.
    """
    found = []
    for level, (logits, ltrb, stride) in enumerate(zip(heat_logits, ltrbs, strides)):
        height, width = logits.shape[-2:]
        count = nms_pre if constant_k else min(nms_pre, logits.size(1) * height * width)
        best, labels, cells = _best_pairs(logits, count, constant_k)
        distances = ltrb.flatten(2).gather(2, cells[:, None].expand(-1, 4, -1)).transpose(1, 2)
        ys = torch.div(cells, width, rounding_mode='floor')
        points = torch.stack([cells - ys * width, ys], -1) * stride + stride // 2
        levels = torch.full_like(labels, level)
        found.append((best.float(), labels, levels, points, distances.float() * stride))
    best, labels, levels, points, distances = (torch.cat(parts, 1) for parts in zip(*found))
    scores = best.sigmoid()
    scores = torch.where(scores > score_thr, scores.sqrt() if sqrt_score else scores, -1.0)
    points = points.to(distances)
    top_left = points - distances[..., :2]
    bottom_right = torch.max(points + distances[..., 2:], top_left + MIN_BOX_SIZE)
    return Candidates(torch.cat([top_left, bottom_right], -1), scores, labels, levels)


@disable_compile  # another number of boxes in each image
def select(
    candidates: Candidates, nms: ConfigType | None, max_per_img: int, keep_ties: bool = True
) -> list[InstanceData]:
    """``bboxes``, ``scores``, ``labels``, ``levels`` of each image after NMS, best first.

    One device-host sync, and that of each image's NMS.

    Args:
        candidates: From :func:`decode`.
        nms: A config of :func:`mmcv.ops.batched_nms`; None skips it.
        max_per_img: How many to keep; **ties keep more**, zero or less keeps
            all. Source: docs/differences.md, 37.
        keep_ties: Whether they do.
    """
    found = []
    for boxes, scores, labels, levels in zip(*candidates):
        image = InstanceData(bboxes=boxes, labels=labels, levels=levels)
        if scores.device.type == 'cpu':  # elsewhere it costs a sync, here padding costs more
            valid = scores >= 0
            image, scores = image[valid], scores[valid]
        if nms is None:
            scores, keep = scores.sort(descending=True)
        else:
            dets, keep = batched_nms(image.bboxes, scores, image.labels, nms, max_per_img)
            scores = dets[:, 4]  # lower after soft NMS
        image = image[keep]
        image.scores = scores
        found.append(image)
    scores = torch.cat([each.scores for each in found]).cpu().numpy()
    ends = np.cumsum([len(each) for each in found])
    nums = [_num_best(part, max_per_img, keep_ties) for part in np.split(scores, ends[:-1])]
    return [each[:num] for each, num in zip(found, nums)]


def _num_best(scores: np.ndarray, max_num: int, keep_ties: bool) -> int:
    """How many of an image's descending scores :func:`select` keeps; negative ones are padding."""
    num = int((scores >= 0).sum())
    if not 0 < max_num < num:
        return num
    return int((scores >= scores[max_num - 1]).sum()) if keep_ties else max_num


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
