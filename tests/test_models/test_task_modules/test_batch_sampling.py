"""Matching and sampling of a batch: what mmdet does for each image."""

import pytest
import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.models.task_modules.samplers import PseudoSampler, RandomSampler
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData

from mmdet_centernet2.models.task_modules import batch_sampling, sample_batch
from mmdet_centernet2.models.task_modules.batch_sampling import can_sample_batch
from tests.test_models.operators import Operators

SAMPLERS = {
    'random': RandomSampler(20, 0.25),
    'random without gt': RandomSampler(20, 0.25, add_gt_as_proposals=False),
    'pseudo': PseudoSampler(),
}
OTHER = dict(
    low_quality=(MaxIoUAssigner(0.6, 0.6, min_pos_iou=0.2), SAMPLERS['random']),
    bounded=(
        MaxIoUAssigner(0.6, 0.6, match_low_quality=False),
        RandomSampler(20, 0.25, neg_pos_ub=3),
    ),
)


def _boxes(num: int) -> torch.Tensor:
    """Boxes on a coarse grid: many are equal, and many IoUs tie."""
    xy = torch.randint(0, 6, (num, 2)) * 10.0
    return torch.cat([xy, xy + torch.randint(1, 4, (num, 2)) * 10.0], 1)


def _batch(num_images: int) -> tuple[list[torch.Tensor], list[DetDataSample]]:
    samples = [
        DetDataSample(
            gt_instances=InstanceData(bboxes=_boxes(num), labels=torch.randint(0, 9, (num,)))
        )
        for num in torch.randint(0, 6, (num_images,)).tolist()
    ]
    return [_boxes(num) for num in torch.randint(0, 80, (num_images,)).tolist()], samples


def assert_same_as_mmdet(assigner, sampler) -> None:
    """RoIs, objects and random numbers."""
    for seed in range(30):
        torch.manual_seed(seed)
        proposals, samples = _batch(4)
        state = torch.get_rng_state()
        ours = sample_batch(assigner, sampler, proposals, samples, [])
        ours_state = torch.get_rng_state()
        torch.set_rng_state(state)
        expected = []
        for boxes, sample in zip(proposals, samples):
            priors, gt = InstanceData(priors=boxes), sample.gt_instances
            expected.append(sampler.sample(assigner.assign(priors, gt), priors, gt))
        assert torch.equal(ours.rois, bbox2roi([each.priors for each in expected]))
        assert ours.counts.tolist() == [
            [len(each.pos_priors), len(each.neg_priors)] for each in expected
        ]
        assert torch.equal(ours.gt_bboxes, torch.cat([each.pos_gt_bboxes for each in expected]))
        for image, each in zip(ours.images(), expected):
            for name, value in vars(image).items():
                assert torch.equal(value, getattr(each, name)), name
        assert torch.equal(ours_state, torch.get_rng_state())


@pytest.mark.parametrize('sampler', SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize('neg_iou_thr, max_pairs', [(0.4, 10**6), (0.6, 10**6), (0.6, 100)])
def test_result_and_random_numbers_are_those_of_mmdet(sampler, neg_iou_thr, max_pairs, monkeypatch):
    """In several parts if ``max_pairs`` is 100."""
    monkeypatch.setattr(batch_sampling, 'MAX_PAIRS', max_pairs)
    assigner = MaxIoUAssigner(0.6, neg_iou_thr, match_low_quality=False)
    assert can_sample_batch(assigner, sampler)
    assert_same_as_mmdet(assigner, sampler)


@pytest.mark.parametrize('assigner, sampler', OTHER.values(), ids=OTHER)
def test_other_rules_are_left_to_mmdet(assigner, sampler):
    assert not can_sample_batch(assigner, sampler)
    assert_same_as_mmdet(assigner, sampler)


def test_no_operator_for_each_image():
    assigner = MaxIoUAssigner(0.6, 0.6, match_low_quality=False)
    counts = []
    for num_images in (2, 16):
        torch.manual_seed(0)
        proposals, samples = _batch(num_images)
        with Operators() as operators:
            sample_batch(assigner, PseudoSampler(), proposals, samples, [])
        counts.append((operators.calls, operators.waits))
    assert counts[0] == counts[1]
