"""Selection of boxes with constant shapes, as pure functions.

What PyTorch does with lists of different lengths is done here with tensors
of one shape for all images; what is missing has a score of zero or less.
"""
from typing import Tuple

import torch
import torch.nn.functional as F
from mmdet.utils import ConfigType
from torch import Tensor

from .ops import SuppressNonMaxima


def nms_threshold(nms: ConfigType) -> float:
    """IoU threshold of a config of :func:`mmcv.ops.batched_nms`.

    Raises:
        ValueError: If it asks for anything but plain NMS.
    """
    kind = nms.get('type', 'nms')
    if kind != 'nms':
        raise ValueError(
            f'nms.type={kind!r} cannot be exported, only plain NMS has an '
            "ONNX operator: set nms.type='nms' in the model's test_cfg")
    return float(nms.get('iou_threshold', nms.get('iou_thr', 0.5)))


def pad_candidates(boxes: Tensor, scores: Tensor, labels: Tensor,
                   num: int) -> Tuple[Tensor, Tensor, Tensor]:
    """Add entries of score -1 until there are at least ``num``.

    Args:
        boxes (Tensor): Shape (B, K, 4).
        scores (Tensor): Shape (B, K).
        labels (Tensor): Shape (B, K).
        num (int): Wanted.
    """
    missing = num - int(scores.size(1))
    if missing <= 0:
        return boxes, scores, labels
    return (F.pad(boxes, (0, 0, 0, missing)),
            F.pad(scores, (0, missing), value=-1.),
            F.pad(labels, (0, missing)))


def apart_by_class(boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """Move boxes so that those of different classes do not meet.

    The same shift as in :func:`mmcv.ops.batched_nms`, so that the same boxes
    are dropped.

    Args:
        boxes (Tensor): xyxy, shape (B, K, 4).
        scores (Tensor): Entries below zero do not count, shape (B, K).
        labels (Tensor): Shape (B, K).

    Returns:
        Tensor: Shape (B, K, 4).
    """
    present = (scores >= 0)[..., None]
    largest = torch.where(present, boxes, torch.zeros_like(boxes)).amax(
        dim=(1, 2), keepdim=True)
    return boxes + labels[..., None].to(boxes.dtype) * (largest + 1)


def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float,
             score_threshold: float, max_num: int) -> Tensor:
    """Scores after NMS, class by class; -1 for what is dropped.

    There is another way for TensorRT, see ``rewriters.tensorrt``.

    Args:
        boxes (Tensor): xyxy, shape (B, N, 4).
        scores (Tensor): Shape (B, C, N).
        iou_threshold (float): Boxes that overlap more compete.
        score_threshold (float): Only scores above it take part.
        max_num (int): More than that of a class may be dropped.

    Returns:
        Tensor: Shape (B, C, N).
    """
    return SuppressNonMaxima.apply(boxes, scores, max_num, iou_threshold,
                                   score_threshold)


def gather_rows(rows: Tensor, inds: Tensor) -> Tensor:
    """``rows[b, inds[b]]`` of (B, N, D) and (B, K): shape (B, K, D)."""
    return rows.gather(1, inds[..., None].expand(-1, -1, int(rows.size(2))))


def best_boxes(boxes: Tensor, scores: Tensor, labels: Tensor,
               nms: ConfigType, max_num: int) -> Tuple[Tensor, Tensor]:
    """NMS of boxes that have one class each, then the best of each image.

    Args:
        boxes (Tensor): xyxy, shape (B, K, 4).
        scores (Tensor): -1 for what is not there, shape (B, K).
        labels (Tensor): Shape (B, K).
        nms (dict): See :func:`nms_threshold`.
        max_num (int): Of the results, N.

    Returns:
        tuple[Tensor, Tensor]: Boxes and scores (B, N, 5), best first, zero
        for what is missing; labels (B, N), there -1.
    """
    boxes, scores, labels = pad_candidates(boxes, scores, labels, max_num)
    if nms.get('class_agnostic', False):
        moved = boxes
    else:
        moved = apart_by_class(boxes, scores, labels)
    kept = suppress(moved, scores[:, None], nms_threshold(nms), 0.,
                    max_num)
    top, inds = kept.flatten(1).topk(max_num, dim=1)
    return pack(gather_rows(boxes, inds), top, labels.gather(1, inds))


def best_classes(boxes: Tensor, scores: Tensor, score_thr: float,
                 nms: ConfigType, max_num: int) -> Tuple[Tensor, Tensor]:
    """NMS of boxes that have a score for each class, class by class.

    Args:
        boxes (Tensor): xyxy, shape (B, N, 4).
        scores (Tensor): Without background, shape (B, N, C).
        score_thr (float): Only scores above it take part.
        nms (dict): See :func:`nms_threshold`.
        max_num (int): Of the results.

    Returns:
        tuple[Tensor, Tensor]: See :func:`best_boxes`.

    Raises:
        ValueError: If NMS is to look at all classes together.
    """
    if nms.get('class_agnostic', False):
        raise ValueError('class-agnostic NMS of the second stage cannot be '
                         'exported: drop class_agnostic from test_cfg.rcnn')
    num_boxes = int(boxes.size(1))
    kept = suppress(boxes, scores.transpose(1, 2), nms_threshold(nms),
                    score_thr, max_num).flatten(1)
    missing = max_num - int(kept.size(1))
    if missing > 0:
        kept = F.pad(kept, (0, missing), value=-1.)
    top, inds = kept.topk(max_num, dim=1)
    labels = torch.div(inds, num_boxes, rounding_mode='trunc')
    return pack(gather_rows(boxes, inds - labels * num_boxes), top, labels)


def pack(boxes: Tensor, scores: Tensor,
         labels: Tensor) -> Tuple[Tensor, Tensor]:
    """Join boxes and scores; what has no score becomes zeros, label -1."""
    present = scores > 0
    dets = torch.cat([boxes, scores[..., None]], dim=-1)
    return (torch.where(present[..., None], dets, torch.zeros_like(dets)),
            torch.where(present, labels, -torch.ones_like(labels)))


def clip_to_images(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Clip boxes to their images.

    Args:
        boxes (Tensor): xyxy, shape (B, N, 4).
        image_sizes (Tensor): (height, width) in pixels, shape (B, 2).

    Returns:
        Tensor: Shape (B, N, 4).
    """
    limits = image_sizes.flip(-1).repeat(1, 2)[:, None]
    return torch.min(boxes.clamp(min=0), limits)


def image_numbers(boxes: Tensor) -> Tensor:
    """Number of the image of each row of (B, N, D), shape (B, N, 1)."""
    numbers = torch.arange(
        boxes.size(0), dtype=boxes.dtype, device=boxes.device)
    return numbers[:, None, None] + torch.zeros_like(boxes[..., :1])
