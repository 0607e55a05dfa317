"""NMS on a CPU, against mmcv's."""

import mmcv.ops
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.layers import multiclass_nms as mmdet_nms

from mmdet_centernet2.models.ops import batched_nms, multiclass_nms, nms
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


def _case(seed: int, most: int) -> tuple[torch.Tensor, ...]:
    """Boxes on few places or many, their scores, labels of few classes or many."""
    generator = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    count, places = number(1, most), (3, 40, 1000)[seed % 3]
    boxes = torch.rand(places, 4, generator=generator) * 600
    boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:] / 4 + 20
    boxes = boxes[torch.randint(places, (count,), generator=generator)]
    boxes = (boxes + torch.randn(count, 4, generator=generator) * 3).clamp(min=0)
    scores = torch.rand(count, generator=generator)
    labels = torch.randint((1, 80, 1203)[seed // 3 % 3], (count,), generator=generator)
    return boxes, scores, labels, number(1, 40)


@pytest.mark.parametrize('split, inputs', [(10_000, 3000), (1, 150)])
def test_thousands_of_inputs(split, inputs, monkeypatch):
    """All classes at once, as mmcv with few boxes, and class by class, with many."""
    monkeypatch.setattr(nms, 'SPLIT', split)
    stopped = 0
    for seed in range(inputs):
        boxes, scores, labels, enough = _case(seed, 200)
        cfg = dict(type='nms', iou_threshold=(0.5, 0.7, 0.9)[seed % 3])
        dets, keep = batched_nms(boxes, scores, labels, cfg, enough)
        wanted, indices = mmcv.ops.batched_nms(boxes, scores, labels, dict(cfg, split_thr=split))
        assert torch.equal(dets[:enough], wanted[:enough]), seed
        assert torch.equal(keep[:enough], indices[:enough]), seed
        stopped += len(keep) < len(indices)
    assert stopped > inputs / 4  # it did not do all the work


@pytest.mark.parametrize('split', [10_000, 1])
def test_order_of_equal_scores(split, monkeypatch):
    """That of the input, however many boxes there are and are wanted."""
    monkeypatch.setattr(nms, 'SPLIT', split)
    for seed in range(100):
        boxes, scores, labels, enough = _case(seed, 200)
        scores = (scores * 8).ceil() / 8 - 0.5  # below zero, too
        order = scores.sort(stable=True, descending=True).indices
        ranks = torch.arange(len(order), 0, -1.0)
        cfg = dict(NMS, split_thr=split)
        wanted = order[mmcv.ops.batched_nms(boxes[order], ranks, labels[order], cfg)[1]]
        keep = batched_nms(boxes, scores, labels, NMS, enough)[1]
        ties = (scores[wanted] >= scores[wanted[:enough][-1]]).sum()
        assert torch.equal(keep[:ties], wanted[:ties]), seed


@pytest.mark.parametrize('left', [0.0, -30.0])
@pytest.mark.parametrize('seed', range(9))
def test_so_many_boxes_that_mmcv_goes_class_by_class(seed, left):
    """Where shifted classes could meet, too."""
    boxes, scores, labels, _ = _case(seed, 12_000)
    repeats = 10_000 // len(boxes) + 1
    boxes = boxes.repeat(repeats, 1) + torch.arange(repeats).repeat_interleave(len(boxes))[:, None]
    scores = torch.randperm(len(boxes), generator=torch.Generator().manual_seed(seed)) / 2**24
    labels = labels.repeat(repeats)
    dets, keep = batched_nms(boxes + left, scores, labels, NMS, 300)
    wanted, indices = mmcv.ops.batched_nms(boxes + left, scores, labels, NMS)
    assert torch.equal(dets[:300], wanted[:300])
    assert torch.equal(keep[:300], indices[:300])


@pytest.mark.parametrize('max_num', [-1, 5, 300])
@pytest.mark.parametrize('score_thr', [0.0, 0.9, 0.99, 2.0])
def test_pairs_of_box_and_class(max_num, score_thr):
    """As mmdet's function, whose indices are those of the pairs."""
    generator = torch.Generator().manual_seed(0)
    boxes = _case(1, 2)[0].repeat(60, 1) + torch.randn(60, 4, generator=generator).abs() * 9
    scores = torch.rand(60, 181, generator=generator)
    dets, labels, rows = multiclass_nms(boxes, scores, score_thr, NMS, max_num)
    wanted = mmdet_nms(boxes, scores, score_thr, NMS, max_num, return_inds=True)
    assert torch.equal(dets, wanted[0])
    assert torch.equal(labels, wanted[1])
    assert torch.equal(rows * 180 + labels, wanted[2])


@pytest.fixture
def compared(monkeypatch):
    """How many boxes each call of mmcv's operator gets, instead of a time."""
    counts, run = [], nms.NMSop.forward

    def forward(ctx, boxes, *args):
        counts.append(len(boxes))
        return run(ctx, boxes, *args)

    monkeypatch.setattr(nms.NMSop, 'forward', staticmethod(forward))
    return counts


@pytest.mark.parametrize('classes', [80, 1203])
def test_less_is_compared_than_by_mmcv(classes, compared):
    """All 20,000 boxes in mmcv."""
    boxes = _case(2, 2)[0].repeat(20_000, 1)
    generator = torch.Generator().manual_seed(0)
    boxes += torch.rand(20_000, 4, generator=generator) * 200
    labels = torch.randint(classes, (20_000,), generator=generator)
    batched_nms(boxes, torch.rand(20_000, generator=generator), labels, NMS, 100)
    assert len(compared) <= 6
    assert sum(compared) < 4000


@pytest.mark.parametrize('count', [600, 1000, 5000, 9500])
@pytest.mark.parametrize('places', [1, 20, 200, 250])
def test_little_is_compared_twice_where_few_boxes_survive(places, count, compared):
    """All boxes have to be looked at; mmcv is not to be faster."""
    generator = torch.Generator().manual_seed(places)
    corners = torch.rand(places, 2, generator=generator) * 20_000
    boxes = torch.cat([corners, corners + 50], 1)[torch.arange(count) % places]
    dets, _ = batched_nms(
        boxes, torch.rand(count, generator=generator), torch.zeros(count).long(), NMS, 256
    )
    assert len(dets) == places
    assert len(compared) <= 4
    assert sum(compared[:-1]) <= 0.45 * count
