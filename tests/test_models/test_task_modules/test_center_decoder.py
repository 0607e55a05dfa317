"""Proposals against the slow reference."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet_centernet2.models.task_modules import decode, rescale_and_clip, select
from tests.reference import adapters
from tests.reference.cascade import Detection, final_detections
from tests.reference.cases import SETTINGS, level_sets
from tests.reference.decode import Scored, proposals
from tests.reference.layout import Level, location

NMS = dict(type='nms', iou_threshold=0.9, class_agnostic=True)


def run(
    levels: Sequence[Level], logits: list[Tensor], ltrbs: list[Tensor], pre: int, post: int
) -> list[list[Scored]]:
    """Proposals of the package, of each image."""
    candidates = decode(logits, ltrbs, adapters.strides(levels), 1e-4, pre, True)
    found = select(candidates, ConfigDict(NMS), post)
    return [
        [Scored(score, box) for score, box in zip(p.scores.tolist(), adapters.to_boxes(p.bboxes))]
        for p in found
    ]


def reference(
    levels: Sequence[Level],
    logits: list[Tensor],
    ltrbs: list[Tensor],
    pre: int,
    post: int,
    image: int,
):
    """Proposals of the reference, of one image."""
    return proposals(
        levels,
        [x[image, 0].flatten().tolist() for x in logits],
        [x[image].flatten(1).T.tolist() for x in ltrbs],
        pre,
        post,
    )


def assert_same(found: list[Scored], wanted: list[Scored]) -> None:
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted):
        assert a.score == pytest.approx(b.score, rel=1e-5)
        assert a.box == pytest.approx(b.box, abs=2e-3)


@st.composite
def outputs(draw):
    """Levels, maps with scores that all differ, and limits.

    A seed stands for the numbers in the maps. Distances are quarters of a
    stride and often alike in neighbouring cells, so that boxes overlap.
    """
    levels = draw(level_sets().filter(lambda levels: sum(level.cells for level in levels) <= 200))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    batch = draw(st.integers(1, 2))
    total = batch * sum(level.cells for level in levels)
    order = torch.randperm(total, generator=generator)
    scores = (order / total * 14 - 10.5).split(
        [batch * level.cells for level in levels]
    )  # some below -9.2
    logits, ltrbs = [], []
    for level, values in zip(levels, scores):
        shape = (level.height, level.width)
        logits.append(values.view(batch, 1, *shape))
        steps = torch.randint(0, draw(st.integers(1, 12)), (batch, 4, *shape), generator=generator)
        ltrbs.append(steps / 4 + draw(st.sampled_from([0, 2, 6])))
    return (levels, logits, ltrbs, draw(st.integers(1, 60)), draw(st.integers(1, 60)))


@SETTINGS
@given(outputs())
def test_proposals(case):
    levels, logits, ltrbs, pre, post = case
    for image, found in enumerate(run(levels, logits, ltrbs, pre, post)):
        assert_same(found, reference(levels, logits, ltrbs, pre, post, image))


def _maps(level: Level, logits, ltrb: float):
    shape = (1, 1, level.height, level.width)
    return (
        [torch.tensor(logits, dtype=torch.float32).view(shape)],
        [torch.full((1, 4, level.height, level.width), ltrb)],
    )


def test_score_is_the_root_and_box_is_not_clipped():
    level = Level(8, 1, 2, 0, 1e7)
    logits, ltrbs = _maps(level, [2.0, -20.0], 3.0)
    (found,) = run([level], logits, ltrbs, 10, 10)
    assert len(found) == 1  # the other is below the threshold
    assert found[0].score == pytest.approx((1 / (1 + 2.718281828**-2)) ** 0.5)
    assert found[0].box == (-20, -20, 28, 28)


def test_box_without_extent_is_inflated():
    level = Level(8, 1, 1, 0, 1e7)
    (found,) = run([level], *_maps(level, [0.0], 0.0), 10, 10)
    assert found[0].box == pytest.approx((4, 4, 4.01, 4.01), abs=1e-6)


def test_threshold_is_on_the_heat_not_on_its_root():
    """sigmoid(-10) is 4.5e-5, its root .0067; sigmoid(-9) is 1.2e-4."""
    level = Level(8, 1, 2, 0, 1e7)
    (found,) = run([level], *_maps(level, [-10.0, -9.0], 0.25), 10, 10)
    assert [item.box for item in found] == [(10, 2, 14, 6)]


def test_limit_before_nms_holds_for_each_level():
    levels = (Level(8, 4, 4, 0, 80), Level(16, 2, 2, 64, 1e7))
    logits = [torch.zeros(1, 1, 4, 4), torch.full((1, 1, 2, 2), -5.0)]
    ltrbs = [torch.full((1, 4, 4, 4), 0.25), torch.full((1, 4, 2, 2), 0.25)]
    (found,) = run(levels, logits, ltrbs, 3, 100)
    assert [round(box[2] - box[0]) for _, box in found] == [4] * 3 + [8] * 3


@pytest.mark.parametrize('count, kept', [(1, 1), (2, 4), (3, 4), (4, 4), (5, 5), (9, 6)])
def test_ties_keep_more(count, kept):
    """The boxes do not touch."""
    level = Level(8, 2, 3, 0, 1e7)
    logits, ltrbs = _maps(level, [3, 1, 1, 1, 0, -1.0], 0.25)
    (found,) = run([level], logits, ltrbs, 100, count)
    assert len(found) == kept
    assert len(reference([level], logits, ltrbs, 100, count, 0)) == kept


def test_nms_is_one_over_all_levels():
    """A box of the coarser level hides the same box of the finer one."""
    levels = (Level(8, 4, 4, 0, 80), Level(16, 2, 2, 64, 1e7))
    logits = [torch.full((1, 1, 4, 4), -20.0), torch.full((1, 1, 2, 2), -20.0)]
    ltrbs = [torch.full((1, 4, 4, 4), 1.0), torch.full((1, 4, 2, 2), 1.0)]
    logits[0][0, 0, 1, 1], logits[1][0, 0, 0, 0] = 0, 1
    # location (12, 12) with these distances: the box around (8, 8)
    assert location(levels[0], 1, 1) == (12, 12)
    ltrbs[0][0, :, 1, 1] = torch.tensor([2.5, 2.5, 1.5, 1.5])
    (found,) = run(levels, logits, ltrbs, 10, 10)
    assert [item.box for item in found] == [(-8, -8, 24, 24)]


def test_no_candidate():
    level = Level(8, 2, 2, 0, 1e7)
    (found,) = select(
        decode(
            [torch.full((1, 1, 2, 2), -20.0)],
            [torch.ones(1, 4, 2, 2)],
            [level.stride],
            1e-4,
            10,
            True,
        ),
        ConfigDict(NMS),
        5,
    )
    assert found.bboxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)


def classwise(seed: int, batch: int = 2, classes: int = 3, dtype=torch.float32):
    """Maps of two levels, all logits different."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, classes, 6, 9), (batch, classes, 3, 5)]
    total = sum(torch.Size(shape).numel() for shape in shapes)
    order = torch.randperm(total, generator=generator)
    parts = (order / total * 8 - 4).split([torch.Size(shape).numel() for shape in shapes])
    logits = [part.view(shape) for part, shape in zip(parts, shapes)]
    ltrbs = [torch.rand(batch, 4, *shape[2:], generator=generator) * 3 for shape in shapes]
    return [x.to(dtype) for x in logits], [x.to(dtype) for x in ltrbs]


def dense_decode(logits: Tensor, ltrb: Tensor, stride: int, count: int):
    """Every box first, then the best pairs: (score, label, box)."""
    found = []
    for label, cells in enumerate(logits.sigmoid()):
        for y, row in enumerate(cells):
            for x, score in enumerate(row.tolist()):
                left, top, right, bottom = (ltrb[:, y, x] * stride).tolist()
                px, py = x * stride + stride // 2, y * stride + stride // 2
                found.append((score, label, (px - left, py - top, px + right, py + bottom)))
    return sorted(found, reverse=True)[:count]


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_classes_and_cells_of_the_best_pairs(memory_format):
    logits, ltrbs = classwise(3)
    found = decode(
        [x.contiguous(memory_format=memory_format) for x in logits],
        [x.contiguous(memory_format=memory_format) for x in ltrbs],
        (8, 16),
        0.05,
        20,
        False,
    )
    for image in range(2):
        wanted = [
            item
            for level in range(2)
            for item in dense_decode(logits[level][image], ltrbs[level][image], (8, 16)[level], 20)
        ]
        for i, (score, label, box) in enumerate(wanted):
            assert found.labels[image, i] == label
            assert found.boxes[image, i].tolist() == pytest.approx(box, abs=1e-4)
            assert found.scores[image, i].item() == pytest.approx(score if score > 0.05 else -1)


@pytest.mark.parametrize('classes', [1, 3])
def test_constant_number_of_candidates(classes):
    """Padding, and what is below the threshold, scores -1."""
    logits, ltrbs = classwise(5, classes=classes)
    plain = decode(logits, ltrbs, (8, 16), 0.05, 100, True)
    padded = decode(logits, ltrbs, (8, 16), 0.05, 100, True, constant_k=True)
    assert padded.boxes.shape == (2, 200, 4)
    assert padded.scores.shape == padded.labels.shape == (2, 200)
    assert plain.scores.size(1) < 200
    for found, wanted in zip(select(padded, NMS, 50), select(plain, NMS, 50)):
        assert torch.equal(found.bboxes, wanted.bboxes)
        torch.testing.assert_close(found.scores, wanted.scores)
        assert torch.equal(found.labels, wanted.labels)
    assert padded.labels.max() < classes


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_maps_give_fp32_boxes(dtype):
    """A corner at 2004.5 px needs more than BF16's eight bits."""
    logits = torch.full((1, 1, 1, 251), -9.0, dtype=dtype)
    logits[..., 250] = 3
    ltrb = torch.full((1, 4, 1, 251), 0.4375, dtype=dtype)
    found = decode([logits], [ltrb], (8,), 0.5, 1, True)
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert found.boxes[0, 0].tolist() == [2000.5, 0.5, 2007.5, 7.5]


@pytest.mark.parametrize('classes', [1, 3])
def test_nothing_is_computed_for_whole_maps(classes):
    """No operator writes as much as a map holds."""
    logits = [torch.randn(2, classes, 40, 60)]
    ltrbs = [torch.rand(2, 4, 40, 60)]
    written = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for part in out if isinstance(out, (tuple, list)) else [out]:
                if not func.is_view:
                    written.append((part.numel(), str(func)))
            return out

    for memory_format in (torch.contiguous_format, torch.channels_last):
        maps = [
            [x.contiguous(memory_format=memory_format) for x in part] for part in (logits, ltrbs)
        ]
        with Record():
            decode(*maps, (8,), 0.05, 30, True)
    assert written and max(written)[0] <= 2 * 30 * 4


def test_without_nms_all_come_back_best_first():
    logits, ltrbs = classwise(7)
    candidates = decode(logits, ltrbs, (8, 16), 0.05, 20, False)
    for found, scores in zip(select(candidates, None, 0), candidates.scores):
        assert torch.equal(found.scores, scores[scores >= 0].sort(descending=True).values)


META = dict(img_shape=(100, 200), ori_shape=(50, 400), scale_factor=(0.5, 2.0))
BOXES = [
    (10.0, 20.0, 60.0, 80.0),
    (-5.0, -5.0, 300.0, 300.0),
    (201.0, 5.0, 230.0, 9.0),
    (40.0, 99.5, 60.0, 120.0),
    (-9.0, 3.0, 0.0, 8.0),
]


def results() -> InstanceData:
    return InstanceData(
        bboxes=torch.tensor(BOXES),
        scores=torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]),
        labels=torch.arange(5),
    )


def test_rescale_clip_and_drop():
    found = rescale_and_clip(results(), META, rescale=True)
    assert found.bboxes.tolist() == [[20, 10, 120, 40], [0, 0, 400, 50], [80, 49.75, 120, 50]]
    assert found.labels.tolist() == [0, 1, 3]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.6])


def test_network_pixels():
    found = rescale_and_clip(results(), META, rescale=False)
    assert found.bboxes.tolist() == [[10, 20, 60, 80], [0, 0, 200, 100], [40, 99.5, 60, 100]]
    assert found.labels.tolist() == [0, 1, 3]


def test_reference_agrees():
    fused = [[0.9 - 0.1 * i if i == j else 0.0 for j in range(5)] for i in range(5)]
    wanted = final_detections(fused, BOXES, META['img_shape'], META['ori_shape'])
    found = rescale_and_clip(results(), META, rescale=True)
    assert wanted == [
        Detection(pytest.approx(score), label, box)
        for score, label, box in zip(
            found.scores.tolist(), found.labels.tolist(), adapters.to_boxes(found.bboxes)
        )
    ]


def test_no_detection():
    empty = InstanceData(
        bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long)
    )
    assert len(rescale_and_clip(empty, META, rescale=True)) == 0
