"""Non-maximum suppression; on a CPU in blocks, and only as far as needed."""

import mmcv.ops
import torch
from mmdet.utils import ConfigType
from torch import Tensor

#: Candidates that are compared at once.
BLOCK = 256
#: mmcv's settings that the CPU version knows.
KNOWN_SETTINGS = {'type', 'iou_threshold', 'class_agnostic'}


def batched_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, nms_cfg: ConfigType, max_num: int
) -> tuple[Tensor, Tensor]:
    """mmcv's ``batched_nms``, exact for the ``max_num`` best and their ties.

    On a CPU it stops once there are that many.

    Args:
        boxes: xyxy in pixels, shape (n, 4).
        scores: Shape (n, ), in any order.
        labels: Shape (n, ).
        nms_cfg: Config of :func:`mmcv.ops.batched_nms`.
        max_num: Zero or less means all.

    Returns:
        (x1, y1, x2, y2, score), best first, (m, 5), and their indices, (m, ).
    """
    if (
        scores.device.type != 'cpu'
        or set(nms_cfg) - KNOWN_SETTINGS
        or (nms_cfg.get('type', 'nms') != 'nms')
    ):
        return mmcv.ops.batched_nms(boxes, scores, labels, nms_cfg)
    scores, order = scores.sort(descending=True)
    groups = labels[order]
    if nms_cfg.get('class_agnostic', False):
        groups = torch.zeros_like(groups)
    keep = _greedy_nms(boxes[order], scores, groups, nms_cfg['iou_threshold'], max_num)
    order = order[keep]
    return torch.cat([boxes[order], scores[keep, None]], 1), order


def _greedy_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, max_num: int
) -> Tensor:
    """Ascending indices of the survivors of boxes, sorted by score.

    Each block is compared with the survivors so far, then within itself.
    """
    kept: list[Tensor] = []
    survivors = boxes.new_zeros(0, dtype=torch.long)
    for start in range(0, len(boxes), BLOCK):
        if 0 < max_num <= len(survivors) and (scores[survivors[max_num - 1]] > scores[start]):
            break
        block = torch.arange(start, min(start + BLOCK, len(boxes)))
        over = _overlaps(boxes[block], boxes[survivors], iou_threshold)
        over &= groups[block, None] == groups[survivors]
        block = block[~over.any(1)]
        over = _overlaps(boxes[block], boxes[block], iou_threshold)
        over &= groups[block, None] == groups[block]
        kept.append(block[_survivors(over.triu_(1))])
        survivors = torch.cat(kept)
    return survivors


def _overlaps(boxes: Tensor, others: Tensor, iou_threshold: float) -> Tensor:
    """Whether the IoU of each pair is above the threshold, (n, m)."""
    low = torch.max(boxes[:, None, :2], others[:, :2])
    high = torch.min(boxes[:, None, 2:], others[:, 2:])
    inter = (high - low).clamp_(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    other_areas = (others[:, 2:] - others[:, :2]).prod(-1)
    # mmcv's order of operations, for the same result to the last bit
    return inter / (areas[:, None] + other_areas - inter) > iou_threshold


def _survivors(over: Tensor) -> Tensor:
    """Mask (n, ) from which earlier boxes (rows) overlap later ones (n, n)."""
    keep = torch.ones(len(over), dtype=torch.bool)
    while True:  # each round settles at least one more box
        settled = ~(over & keep[:, None]).any(0)
        if torch.equal(settled, keep):
            return keep
        keep = settled
