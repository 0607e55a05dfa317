"""Non-maximum suppression that, on a CPU, goes only as far as needed."""

import mmcv.ops
import numpy as np
import torch
from mmcv.ops.nms import NMSop
from mmdet.utils import ConfigType
from torch import Tensor

#: mmcv's settings that the CPU version knows.
KNOWN_SETTINGS = {'type', 'iou_threshold', 'class_agnostic'}
#: From so many boxes on mmcv suppresses class by class.
SPLIT = 10_000
#: Classes shifted further may meet, for FP32 is too coarse.
MAX_SHIFT = 2**22


def multiclass_nms(
    boxes: Tensor, scores: Tensor, score_thr: float, nms_cfg: ConfigType, max_num: int
) -> tuple[Tensor, Tensor, Tensor]:
    """mmdet's ``multiclass_nms`` for class-agnostic boxes.

    Args:
        boxes: xyxy in pixels, shape (n, 4).
        scores: Of each class, background last, shape (n, C + 1).
        score_thr: Pairs of box and class above this take part.
        nms_cfg, max_num: See :func:`batched_nms`.

    Returns:
        (x1, y1, x2, y2, score), best first, (m, 5), their labels and the
        indices of their boxes, (m, ).
    """
    rows, labels = (scores[:, :-1] > score_thr).nonzero(as_tuple=True)
    dets, keep = batched_nms(
        boxes.index_select(0, rows), scores[rows, labels], labels, nms_cfg, max_num
    )
    if max_num > 0:
        dets, keep = dets[:max_num], keep[:max_num]
    return dets, labels[keep], rows[keep]


def batched_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, nms_cfg: ConfigType, max_num: int
) -> tuple[Tensor, Tensor]:
    """mmcv's ``batched_nms``, exact for the ``max_num`` best and their ties.

    On a CPU it stops once there are that many, and equal scores have the order
    of the input, as in the original; mmcv leaves their order open.

    Args:
        boxes: xyxy in pixels, shape (n, 4).
        scores, labels: In any order, shape (n, ).
        nms_cfg: Config of :func:`mmcv.ops.batched_nms`.
        max_num: Zero or less means all.

    Returns:
        (x1, y1, x2, y2, score), best first, (m, 5), and their indices, (m, ).
    """
    count = len(scores)
    if not count:
        return boxes.new_zeros(0, 5), labels.new_zeros(0)
    if (
        scores.device.type != 'cpu'
        or set(nms_cfg) - KNOWN_SETTINGS
        or (nms_cfg.get('type', 'nms') != 'nms')
        or max_num <= 0
    ):
        return mmcv.ops.batched_nms(boxes, scores, labels, nms_cfg)
    shifted = boxes
    if not nms_cfg.get('class_agnostic', False):  # mmcv's shift, for the same rounding
        shifted = boxes + (labels.to(boxes) * (boxes.max() + 1))[:, None]
        if count >= SPLIT and not (boxes.min() >= 0 and shifted.max() < MAX_SHIFT):
            return mmcv.ops.batched_nms(boxes, scores, labels, nms_cfg)
    iou_threshold = nms_cfg['iou_threshold']
    order = _best_first(scores, 8 * max_num)
    keep = _greedy_nms(shifted, scores, order, iou_threshold, max_num)
    if len(keep) < max_num and len(order) < count:
        order = _best_first(scores, count)
        keep = _greedy_nms(shifted, scores, order, iou_threshold, max_num)
    return torch.cat([boxes[keep], scores[keep, None]], 1), keep


def _best_first(scores: Tensor, count: int) -> Tensor:
    """Indices of at least the ``count`` best and their ties, sorted; with few boxes all."""
    if len(scores) < SPLIT:
        return _sort(scores)
    lowest = scores.topk(min(count, len(scores))).values[-1]
    best = (scores >= lowest).nonzero().squeeze(1)
    return best[_sort(scores[best])]


def _sort(scores: Tensor) -> Tensor:
    """Indices, best first and equal scores in the order of the input.

    Score and index in one integer: twice as fast as torch's sort of floats.
    """
    bits = scores.detach().float().numpy().view(np.int32)
    bits = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)  # as the floats, below 0 too
    keys = np.arange(len(bits)) - (bits << 32)
    keys.sort()
    return torch.from_numpy(keys & 0xFFFFFFFF)


def _greedy_nms(
    boxes: Tensor, scores: Tensor, order: Tensor, iou_threshold: float, max_num: int
) -> Tensor:
    """Survivors among ``order``, in its order, up to the ``max_num``-th and its ties.

    In rounds: the survivors so far and the next boxes, as many as the share of
    survivors in the last round lets expect to be enough. The fewer the rounds,
    the less is compared twice where all boxes have to be looked at.
    """
    keep, count = order[:0], len(order)
    ranks = torch.arange(count, 0, -1, dtype=torch.float32)
    start, end = 0, count if count <= 3 * max_num else max_num + max_num // 4
    while start < count:
        if len(keep) >= max_num and scores[keep[max_num - 1]] > scores[order[start]]:
            break
        before = len(keep)
        keep = torch.cat([keep, order[start:end]])
        # without NMSop.apply, which prepares for gradients that there are not
        survivors = NMSop.forward(
            None, boxes.index_select(0, keep), ranks[: len(keep)], iou_threshold, 0, 0, -1
        )
        keep = keep.index_select(0, survivors)
        found, missing = max(len(keep) - before, 1), max_num - len(keep)
        start, end = end, max(3 * end, end + 2 * missing * (end - start) // found)
        if 3 * end > len(boxes):  # one round less
            end = count
    return keep
