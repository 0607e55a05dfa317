"""Matching and sampling of RoIs for a whole batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.models.task_modules.assigners import BaseAssigner, MaxIoUAssigner
from mmdet.models.task_modules.samplers import BaseSampler, PseudoSampler, RandomSampler
from mmdet.utils import InstanceList
from torch import Tensor

from .to_device import to_device

#: Pairs of boxes and objects that are compared at once.
MAX_PAIRS = 2**24


@dataclass
class SampledRoIs:
    """What box and mask heads read of mmdet's ``SamplingResult``, of one image."""

    priors: Tensor  # positive, then negative ones
    pos_priors: Tensor
    neg_priors: Tensor
    pos_gt_bboxes: Tensor
    pos_gt_labels: Tensor
    pos_assigned_gt_inds: Tensor


def can_sample_batch(assigner: BaseAssigner, sampler: BaseSampler) -> bool:
    """Whether :func:`sample_batch` does what these two do image by image."""
    return (
        type(assigner) is MaxIoUAssigner
        and not assigner.match_low_quality
        and isinstance(assigner.neg_iou_thr, float)
        and assigner.ignore_iof_thr <= 0
        and assigner.perm_repeat_gt_cfg is None
        and assigner.gpu_assign_thr <= 0
        and (
            type(sampler) is PseudoSampler
            or (type(sampler) is RandomSampler and sampler.neg_pos_ub < 0)
        )
    )


def sample_batch(
    assigner: MaxIoUAssigner,
    sampler: PseudoSampler | RandomSampler,
    proposals: Sequence[Tensor],
    gts: InstanceList,
) -> list[SampledRoIs]:
    """Match and sample as mmdet does, with its random draws, but for all images.

    The matches are copied to the host, where images are sampled: one
    device-host sync, whatever the number of images.

    Args:
        assigner, sampler: For which :func:`can_sample_batch` holds.
        proposals: Boxes of each image, (n_i, 4) in pixels.
        gts: ``bboxes`` (k_i, 4) and ``labels`` (k_i, ) of each image.
    """
    gt_boxes = [gt.bboxes for gt in gts]
    matches = _match(assigner, proposals, gt_boxes)
    boxes = list(proposals)
    if type(sampler) is RandomSampler and sampler.add_gt_as_proposals:
        boxes = [each for pair in zip(gt_boxes, proposals) for each in pair]
        matches = [np.append(np.arange(1, len(gt) + 1), each) for gt, each in zip(gts, matches)]
    rows, counts, assigned, matched = [], [], [], []
    prior_start = gt_start = 0
    for match, gt in zip(matches, gts):
        pos, neg = np.flatnonzero(match > 0), np.flatnonzero(match == 0)
        if type(sampler) is RandomSampler:
            pos = _choose(pos, int(sampler.num * sampler.pos_fraction))
            neg = _choose(neg, sampler.num - len(pos))
        rows += [prior_start + pos, prior_start + neg]
        counts += [len(pos), len(neg)]
        assigned.append(match[pos] - 1)
        matched.append(gt_start + assigned[-1])
        prior_start += len(match)
        gt_start += len(gt)
    parts = [np.concatenate(each) for each in (rows, assigned, matched)]
    indices = to_device(np.concatenate(parts), boxes[0].device)
    row_inds, assigned_inds, matched_inds = indices.split([len(part) for part in parts])
    sampled = torch.cat(boxes).index_select(0, row_inds)
    by_sign = sampled.split(counts)
    num_pos = counts[::2]
    columns = (
        sampled.split([p + n for p, n in zip(num_pos, counts[1::2])]),
        by_sign[::2],
        by_sign[1::2],
        torch.cat(gt_boxes).index_select(0, matched_inds).split(num_pos),
        torch.cat([gt.labels for gt in gts]).index_select(0, matched_inds).split(num_pos),
        assigned_inds.split(num_pos),
    )
    return [SampledRoIs(*row) for row in zip(*columns)]


def _choose(indices: np.ndarray, num: int) -> np.ndarray:
    """Sorted random choice, drawn as mmdet's ``RandomSampler`` does."""
    if len(indices) <= num:
        return indices
    return np.sort(indices[torch.randperm(len(indices))[:num].numpy()])


def _match(
    assigner: MaxIoUAssigner, proposals: Sequence[Tensor], gt_boxes: Sequence[Tensor]
) -> list[np.ndarray]:
    """For each proposal 0 for background, -1 for none, or 1 + the object's index.

    Images are padded to one size, but not if a crowd would make that large.
    """
    counts, num_gts = ([len(each) for each in boxes] for boxes in (proposals, gt_boxes))
    size = max(counts) * max(num_gts) * len(counts)
    step = len(counts) if size <= MAX_PAIRS else 1
    found = [
        _match_padded(assigner, proposals[i : i + step], gt_boxes[i : i + step])
        for i in range(0, len(counts), step)
    ]
    rows = torch.cat([each.flatten() for each in found]).cpu().numpy()
    widths = np.repeat([each.size(1) for each in found], step)
    parts = np.split(rows, widths.cumsum()[:-1])
    return [part[:count] for part, count in zip(parts, counts)]


def _match_padded(
    assigner: MaxIoUAssigner, proposals: Sequence[Tensor], gt_boxes: Sequence[Tensor]
) -> Tensor:
    """:func:`_match`, (B, n) with anything at the ends of rows."""
    boxes, _ = _pad(proposals)
    gts, is_gt = _pad(gt_boxes)
    overlaps = assigner.iou_calculator(gts, boxes)
    best, index = overlaps.masked_fill(~is_gt[:, :, None], -1).max(dim=1)
    negative = ((best >= 0) & (best < assigner.neg_iou_thr)) | ~is_gt[:, :1]
    return torch.where(best >= assigner.pos_iou_thr, index + 1, negative.long() - 1)


def _pad(boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Boxes (B, n, 4), with zeros at the end, and which are real (B, n); n is not 0."""
    counts = np.array([len(each) for each in boxes])
    rows = np.arange(max(counts.max(), 1))[None]
    is_real = rows < counts[:, None]
    starts = (counts.cumsum() - counts)[:, None]
    indices = to_device(np.where(is_real, starts + rows, counts.sum()), boxes[0].device)
    flat = torch.cat([*boxes, boxes[0].new_zeros(1, 4)])
    padded = flat.index_select(0, indices.flatten()).unflatten(0, indices.shape)
    return padded, indices < len(flat) - 1
