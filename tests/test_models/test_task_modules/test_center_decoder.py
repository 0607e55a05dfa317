"""Proposals against the slow reference."""
from typing import List, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from torch import Tensor

from mmdet_centernet2.models.task_modules import decode, select
from tests.reference import adapters
from tests.reference.cases import SETTINGS, level_sets
from tests.reference.decode import Scored, proposals
from tests.reference.layout import Level, location

NMS = dict(type='nms', iou_threshold=0.9, class_agnostic=True)


def run(levels: Sequence[Level], logits: List[Tensor], ltrbs: List[Tensor],
        pre: int, post: int) -> List[List[Scored]]:
    """Proposals of the package, of each image."""
    candidates = decode([x.sigmoid() for x in logits], ltrbs,
                        adapters.strides(levels), 1e-4, pre, True)
    found = select(candidates, ConfigDict(NMS), post)
    return [[
        Scored(score, box)
        for score, box in zip(p.scores.tolist(), adapters.to_boxes(p.bboxes))
    ] for p in found]


def reference(levels: Sequence[Level], logits: List[Tensor],
              ltrbs: List[Tensor], pre: int, post: int, image: int):
    """Proposals of the reference, of one image."""
    return proposals(levels, [x[image, 0].flatten().tolist() for x in logits],
                     [x[image].flatten(1).T.tolist() for x in ltrbs], pre,
                     post)


def assert_same(found: List[Scored], wanted: List[Scored]) -> None:
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
    levels = draw(level_sets().filter(lambda levels: sum(
        level.cells for level in levels) <= 200))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    batch = draw(st.integers(1, 2))
    total = batch * sum(level.cells for level in levels)
    order = torch.randperm(total, generator=generator)
    scores = (order / total * 14 - 10.5).split(
        [batch * level.cells for level in levels])  # some below -9.2
    logits, ltrbs = [], []
    for level, values in zip(levels, scores):
        shape = (level.height, level.width)
        logits.append(values.view(batch, 1, *shape))
        steps = torch.randint(
            0, draw(st.integers(1, 12)), (batch, 4, *shape),
            generator=generator)
        ltrbs.append(steps / 4 + draw(st.sampled_from([0, 2, 6])))
    return (levels, logits, ltrbs, draw(st.integers(1, 60)),
            draw(st.integers(1, 60)))


@SETTINGS
@given(outputs())
def test_proposals(case):
    levels, logits, ltrbs, pre, post = case
    for image, found in enumerate(run(levels, logits, ltrbs, pre, post)):
        assert_same(found,
                    reference(levels, logits, ltrbs, pre, post, image))


def _maps(level: Level, logits, ltrb: float):
    shape = (1, 1, level.height, level.width)
    return ([torch.tensor(logits, dtype=torch.float32).view(shape)],
            [torch.full((1, 4, level.height, level.width), ltrb)])


def test_score_is_the_root_and_box_is_not_clipped():
    level = Level(8, 1, 2, 0, 1e7)
    logits, ltrbs = _maps(level, [2., -20.], 3.)
    (found, ) = run([level], logits, ltrbs, 10, 10)
    assert len(found) == 1  # the other is below the threshold
    assert found[0].score == pytest.approx((1 / (1 + 2.718281828**-2))**.5)
    assert found[0].box == (-20, -20, 28, 28)


def test_box_without_extent_is_inflated():
    level = Level(8, 1, 1, 0, 1e7)
    (found, ) = run([level], *_maps(level, [0.], 0.), 10, 10)
    assert found[0].box == pytest.approx((4, 4, 4.01, 4.01), abs=1e-6)


def test_threshold_is_on_the_heat_not_on_its_root():
    """sigmoid(-10) is 4.5e-5, its root .0067; sigmoid(-9) is 1.2e-4."""
    level = Level(8, 1, 2, 0, 1e7)
    (found, ) = run([level], *_maps(level, [-10., -9.], .25), 10, 10)
    assert [item.box for item in found] == [(10, 2, 14, 6)]


def test_limit_before_nms_holds_for_each_level():
    levels = (Level(8, 4, 4, 0, 80), Level(16, 2, 2, 64, 1e7))
    logits = [torch.zeros(1, 1, 4, 4), torch.full((1, 1, 2, 2), -5.)]
    ltrbs = [torch.full((1, 4, 4, 4), .25), torch.full((1, 4, 2, 2), .25)]
    (found, ) = run(levels, logits, ltrbs, 3, 100)
    assert [round(box[2] - box[0]) for _, box in found] == [4] * 3 + [8] * 3


@pytest.mark.parametrize('count, kept', [(1, 1), (2, 4), (3, 4), (4, 4),
                                         (5, 5), (9, 6)])
def test_ties_keep_more(count, kept):
    """Q47; the boxes do not touch."""
    level = Level(8, 2, 3, 0, 1e7)
    logits, ltrbs = _maps(level, [3, 1, 1, 1, 0, -1.], .25)
    (found, ) = run([level], logits, ltrbs, 100, count)
    assert len(found) == kept
    assert len(reference([level], logits, ltrbs, 100, count, 0)) == kept


def test_nms_is_one_over_all_levels():
    """A box of the coarser level hides the same box of the finer one."""
    levels = (Level(8, 4, 4, 0, 80), Level(16, 2, 2, 64, 1e7))
    logits = [torch.full((1, 1, 4, 4), -20.), torch.full((1, 1, 2, 2), -20.)]
    ltrbs = [torch.full((1, 4, 4, 4), 1.), torch.full((1, 4, 2, 2), 1.)]
    logits[0][0, 0, 1, 1], logits[1][0, 0, 0, 0] = 0, 1
    # location (12, 12) with these distances: the box around (8, 8)
    assert location(levels[0], 1, 1) == (12, 12)
    ltrbs[0][0, :, 1, 1] = torch.tensor([2.5, 2.5, 1.5, 1.5])
    (found, ) = run(levels, logits, ltrbs, 10, 10)
    assert [item.box for item in found] == [(-8, -8, 24, 24)]


def test_no_candidate():
    level = Level(8, 2, 2, 0, 1e7)
    (found, ) = select(
        decode([torch.zeros(1, 1, 2, 2)], [torch.ones(1, 4, 2, 2)],
               [level.stride], 1e-4, 10, True), ConfigDict(NMS), 5)
    assert found.bboxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0, )
