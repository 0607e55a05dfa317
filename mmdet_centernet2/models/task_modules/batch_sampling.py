"""Matching and sampling of RoIs for a whole batch."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from mmdet.models.task_modules.assigners import BaseAssigner, MaxIoUAssigner
from mmdet.models.task_modules.samplers import BaseSampler, PseudoSampler, RandomSampler
from mmdet.structures import DetDataSample, SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from .to_device import to_device

#: Pairs of boxes and objects that are compared at once.
MAX_PAIRS = 2**22


class SampledRoIs(NamedTuple):
    """RoIs of a batch, image by image, of each image the positive ones first."""

    rois: Tensor  # (image, x1, y1, x2, y2) in pixels, (n, 5)
    pos_inds: Tensor  # rows of the positive ones, (p, )
    gt_bboxes: Tensor  # the objects that these are matched to, (p, 4)
    gt_labels: Tensor  # (p, )
    gt_inds: Tensor  # index of each of these objects in its image, (p, )
    counts: np.ndarray  # positive and negative RoIs of each image, (B, 2)

    def images(self) -> list[SimpleNamespace]:
        """What mmdet's mask heads read of the ``SamplingResult`` of each image."""
        priors = self.rois[:, 1:].index_select(0, self.pos_inds)
        names = 'pos_priors', 'pos_gt_labels', 'pos_assigned_gt_inds'
        columns = [
            column.split(self.counts[:, 0].tolist())
            for column in (priors, self.gt_labels, self.gt_inds)
        ]
        return [SimpleNamespace(**dict(zip(names, image))) for image in zip(*columns)]


def can_sample_batch(assigner: BaseAssigner, sampler: BaseSampler) -> bool:
    """Whether :func:`sample_batch` can look at all images at once."""
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
    assigner: BaseAssigner,
    sampler: BaseSampler,
    proposals: Sequence[Tensor],
    samples: SampleList,
    feats: Sequence[Tensor],
) -> SampledRoIs:
    """Match and sample as mmdet does, with its random draws.

    The usual rules (:func:`can_sample_batch`) see all images at once; their
    matches are copied to the host, one device-host sync. Others go image by image.

    Args:
        assigner, sampler: mmdet's.
        proposals: Boxes of each image, (n_i, 4) in pixels.
        samples: With ``gt_instances``, and ``ignored_instances`` for other rules.
        feats: Maps (B, C, H, W) of each level, for other rules.
    """
    gts = [sample.gt_instances for sample in samples]
    gt_boxes = [gt.bboxes for gt in gts]
    if can_sample_batch(assigner, sampler):
        matches = _match(assigner, proposals, gt_boxes)
        sampled = [_sample(sampler, *image) for image in zip(matches, map(len, gts))]
    else:
        sampled = [
            _sample_image(assigner, sampler, *image, [level[i, None] for level in feats])
            for i, image in enumerate(zip(proposals, samples))
        ]
    boxes, starts = list(proposals), _starts(proposals)
    if getattr(sampler, 'add_gt_as_proposals', False):
        boxes = [each for pair in zip(gt_boxes, proposals) for each in pair]
        starts = _starts(boxes)[::2]
    counts = np.array([(len(pos), len(neg)) for pos, neg, _ in sampled])
    images = np.arange(len(counts)).repeat(counts.sum(1))
    pos_inds = np.tile([True, False], len(counts)).repeat(counts.flatten()).nonzero()[0]
    inds = np.concatenate([each for pos, neg, _ in sampled for each in (pos, neg)])
    gt_inds = np.concatenate([each for *_, each in sampled])
    gt_rows = gt_inds + _starts(gt_boxes)[images[pos_inds]]
    columns = inds + starts[images], images, pos_inds, gt_rows, gt_inds
    # one copy for all
    joined = to_device(np.concatenate(columns), boxes[0].device)
    rows, images, pos_inds, gt_rows, gt_inds = joined.split([len(each) for each in columns])
    priors = torch.cat(boxes).index_select(0, rows)
    return SampledRoIs(
        torch.cat([images[:, None].to(priors), priors], 1),
        pos_inds,
        torch.cat(gt_boxes).index_select(0, gt_rows),
        torch.cat([gt.labels for gt in gts]).index_select(0, gt_rows),
        gt_inds,
        counts,
    )


def _starts(parts: Sequence[Tensor]) -> np.ndarray:
    """Row of the first of each part when all are joined."""
    counts = np.array([len(part) for part in parts])
    return counts.cumsum() - counts


def _sample(sampler: BaseSampler, match: np.ndarray, num_gts: int) -> tuple[np.ndarray, ...]:
    """Positive and negative rows of an image, and the objects of the former."""
    is_random = type(sampler) is RandomSampler
    if is_random and sampler.add_gt_as_proposals:
        match = np.append(np.arange(1, num_gts + 1), match)
    pos, neg = np.flatnonzero(match > 0), np.flatnonzero(match == 0)
    if is_random:
        pos = _choose(pos, int(sampler.num * sampler.pos_fraction))
        neg = _choose(neg, sampler.num - len(pos))
    return pos, neg, match[pos] - 1


def _choose(indices: np.ndarray, num: int) -> np.ndarray:
    """Sorted random choice, drawn as mmdet's ``RandomSampler`` does."""
    if len(indices) <= num:
        return indices
    return np.sort(indices[torch.randperm(len(indices))[:num].numpy()])


def _sample_image(
    assigner: BaseAssigner,
    sampler: BaseSampler,
    boxes: Tensor,
    sample: DetDataSample,
    feats: list[Tensor],
) -> tuple[np.ndarray, ...]:
    """What :func:`_sample` gives, by mmdet."""
    priors, gt = InstanceData(priors=boxes), sample.gt_instances
    assigned = assigner.assign(priors, gt, sample.get('ignored_instances'))
    found = sampler.sample(assigned, priors, gt, feats=feats)
    parts = found.pos_inds, found.neg_inds, found.pos_assigned_gt_inds
    return tuple(part.cpu().numpy() for part in parts)


def _match(
    assigner: MaxIoUAssigner, proposals: Sequence[Tensor], gt_boxes: Sequence[Tensor]
) -> list[np.ndarray]:
    """For each proposal 0 for background, -1 for none, or 1 + the object's index."""
    device = gt_boxes[0].device
    counts = np.array([len(each) for each in gt_boxes])
    numbers = np.arange(max(counts.max(), 1))
    rows = np.where(numbers < counts[:, None], _starts(gt_boxes)[:, None] + numbers, counts.sum())
    gt_rows = to_device(rows, device)  # (B, most objects of an image)
    objects = torch.cat([*gt_boxes, gt_boxes[0].new_zeros(1, 4)])  # the last for none
    images = np.arange(len(proposals)).repeat([len(each) for each in proposals])
    found = []
    size = max(MAX_PAIRS // len(numbers), 1)
    for boxes, image in zip(
        torch.cat(list(proposals)).split(size), to_device(images, device).split(size)
    ):
        own_rows = gt_rows[image]
        overlaps = assigner.iou_calculator(boxes[:, None], objects[own_rows])[:, 0]
        best, index = overlaps.masked_fill(own_rows == len(objects) - 1, -1).max(dim=1)
        unmatched = (best < assigner.neg_iou_thr).long() - 1
        found.append(torch.where(best >= assigner.pos_iou_thr, index + 1, unmatched))
    return np.split(torch.cat(found).cpu().numpy(), _starts(proposals)[1:])
