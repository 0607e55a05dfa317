"""Non-maximum suppression that, on a CPU, goes only as far as needed."""

import mmcv.ops
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
#: Best boxes that show whether most boxes are suppressed.
PROBE = 256


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

    On a CPU it stops once there are that many. Equal scores have mmcv's order;
    from ``SPLIT`` boxes on, where mmcv leaves their order open, that of the input.

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
        or not 0 < max_num < count
    ):
        return mmcv.ops.batched_nms(boxes, scores, labels, nms_cfg)
    shifted = boxes
    if not nms_cfg.get('class_agnostic', False):  # mmcv's shift, for the same rounding
        shifted = boxes + (labels.to(boxes) * (boxes.max() + 1))[:, None]
        if count >= SPLIT and not (boxes.min() >= 0 and shifted.max() < MAX_SHIFT):
            return mmcv.ops.batched_nms(boxes, scores, labels, nms_cfg)
    iou_threshold = nms_cfg['iou_threshold']
    if count < SPLIT and _needs_most(shifted, scores, iou_threshold, max_num):
        keep = _nms(shifted, scores, iou_threshold)
    else:
        order = _best_first(scores, 8 * max_num)
        keep = _greedy_nms(shifted, scores, order, iou_threshold, max_num)
        if len(keep) < max_num and len(order) < count:
            order = _best_first(scores, count)
            keep = _greedy_nms(shifted, scores, order, iou_threshold, max_num)
    return torch.cat([boxes[keep], scores[keep, None]], 1), keep


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of mmcv's survivors; its other arguments are its defaults."""
    return NMSop.apply(boxes, scores, iou_threshold, 0, 0, -1)


def _needs_most(boxes: Tensor, scores: Tensor, iou_threshold: float, max_num: int) -> bool:
    """Guess whether most boxes have to be looked at to find ``max_num``."""
    if len(boxes) <= 2 * max_num:
        return True
    best = scores.topk(min(PROBE, len(scores))).indices
    share = len(_nms(boxes[best], scores[best], iou_threshold)) / len(best)
    return share * len(boxes) < 2 * max_num


def _best_first(scores: Tensor, count: int) -> Tensor:
    """Indices of at least the ``count`` best and their ties, sorted."""
    if len(scores) < SPLIT:
        return scores.sort(descending=True).indices  # as mmcv, so that ties are alike
    lowest = scores.topk(min(count, len(scores))).values[-1]
    best = (scores >= lowest).nonzero().squeeze(1)
    return best[scores[best].sort(stable=True, descending=True).indices]


def _greedy_nms(
    boxes: Tensor, scores: Tensor, order: Tensor, iou_threshold: float, max_num: int
) -> Tensor:
    """Survivors among ``order``, in its order, up to the ``max_num``-th and its ties.

    In rounds: the survivors so far and the next boxes, as many as the share of
    survivors lets expect to be enough.
    """
    keep, start, end = order[:0], 0, max_num + max_num // 4
    while start < len(order):
        if len(keep) >= max_num and scores[keep[max_num - 1]] > scores[order[start]]:
            break
        keep = torch.cat([keep, order[start:end]])
        ranks = torch.arange(len(keep), 0, -1, dtype=torch.float32)
        survivors = _nms(boxes.index_select(0, keep), ranks, iou_threshold)
        keep = keep.index_select(0, survivors)
        start, end = end, max(2 * end, 3 * max_num * end // (2 * len(keep)))
        if 3 * end > 2 * len(order):  # one round less
            end = len(order)
    return keep
