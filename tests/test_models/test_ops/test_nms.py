"""NMS on a CPU, against mmcv's."""

import mmcv.ops
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmdet_centernet2.models.ops import batched_nms
from tests.reference.cases import SETTINGS

NMS = dict(type='nms', iou_threshold=0.6)


@SETTINGS
@given(
    st.integers(0, 10**6),
    st.integers(1, 900),
    st.integers(1, 300),
    st.sampled_from([0.3, 0.6, 0.9]),
    st.booleans(),
)
def test_best_survivors_are_those_of_mmcv(seed, count, enough, thr, agnostic):
    """Many boxes on few places, so that most are suppressed."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 6, (count, 2), generator=generator) * 7.0
    sizes = torch.randint(3, 6, (count, 2), generator=generator) * 5.0
    boxes = torch.cat([corners, corners + sizes], 1)
    scores = (torch.randperm(count, generator=generator) + 1) / count
    labels = torch.randint(0, 3, (count,), generator=generator)
    nms = dict(type='nms', iou_threshold=thr, class_agnostic=agnostic)
    dets, keep = batched_nms(boxes, scores, labels, nms, enough)
    wanted, _ = mmcv.ops.batched_nms(boxes, scores, labels, nms)
    assert torch.equal(dets[:enough], wanted[:enough])
    assert torch.equal(batched_nms(boxes, scores, labels, nms, 0)[0], wanted)
    assert torch.equal(scores[keep], dets[:, 4])
    assert torch.equal(boxes[keep], dets[:, :4])


@pytest.mark.parametrize('ties', [1, 30, 256, 800])
def test_candidates_are_added_until_the_ties_are_complete(ties):
    """In one block of candidates, or in more."""
    corners = torch.arange(900.0)[:, None].expand(-1, 2) * 20
    boxes = torch.cat([corners, corners + 10], 1)
    scores = torch.cat([torch.full((ties,), 0.75), torch.arange(900 - ties) / 1800])
    dets, _ = batched_nms(boxes, scores, torch.zeros(900).long(), NMS, 5)
    assert (dets[:, 4] == 0.75).sum() == ties
