"""Targets of the first stage against the slow reference."""
from typing import Dict, List, Tuple

import pytest
import torch
from hypothesis import example as run_also
from hypothesis import given

from mmdet_centernet2.models.task_modules import (BatchBoxes, CenterTargets,
                                                  LevelLayout, center_targets)
from tests.reference import adapters, targets
from tests.reference.cases import SETTINGS, Case, cases
from tests.reference.layout import Level, flat_index

from . import worked_example as example

NUM_CLASSES = 3


def compute(case: Case, num_classes: int = 1) -> CenterTargets:
    """Targets of the package."""
    instances = adapters.to_instances(case.boxes, case.labels)
    layout = LevelLayout.build(
        adapters.map_sizes(case.levels), adapters.strides(case.levels),
        len(case.boxes), torch.device('cpu'))
    return center_targets(
        BatchBoxes.collate([g.bboxes for g in instances],
                           [g.labels for g in instances]), layout,
        torch.tensor(adapters.ranges(case.levels)), num_classes)


def cells(case: Case) -> List[Tuple[int, Level, int, int, int]]:
    """All (flat index, level, image, x, y) of a batch."""
    batch = len(case.boxes)
    return [(flat_index(case.levels, batch, i, image, x, y), level, image, x,
             y) for i, level in enumerate(case.levels)
            for image in range(batch) for y in range(level.height)
            for x in range(level.width)]


def assert_heats_agree(found: List[float], wanted: List[float]) -> None:
    """Equal up to rounding, which may also decide what is below 1e-4."""
    for row, (a, b) in enumerate(zip(found, wanted)):
        at_cut = min(a, b) == 0 and max(a, b) < 1.0001e-4
        assert a == pytest.approx(b, rel=2e-5) or at_cut, (row, a, b)


@SETTINGS
@given(cases())
def test_agnostic_heatmap(case):
    found = compute(case).heatmap
    wanted = [
        targets.heat(case.boxes[image], level, x, y)
        for _, level, image, x, y in cells(case)
    ]
    assert found.shape == (len(wanted), 1)
    assert_heats_agree(found[:, 0].tolist(), wanted)


@SETTINGS
@given(cases(max_objects=4))
def test_class_heatmaps(case):
    found = compute(case, NUM_CLASSES).heatmap
    wanted = [
        targets.class_heat(case.boxes[image], case.labels[image], level, x, y,
                           NUM_CLASSES) for _, level, image, x, y in cells(case)
    ]
    assert found.shape == (len(wanted), NUM_CLASSES)
    assert_heats_agree(found.flatten().tolist(), sum(wanted, []))


def regression(case: Case) -> Dict[int, targets.Ltrb]:
    """Regression targets of the reference, by flat index."""
    wanted = {}
    for index, level, image, x, y in cells(case):
        boxes = case.boxes[image]
        owner = targets.regression_owner(boxes, level, x, y)
        if owner is not None:
            wanted[index] = targets.ltrb_at(boxes[owner], level, x, y)
    return wanted


def rounding_decides(case: Case, level: Level, image: int, x: int,
                     y: int) -> bool:
    """Whether objects of different size are equally near to a cell.

    Their quotients are then equal but for rounding. Objects of one size are
    not meant: their quotients are the same in any precision.
    """
    near = [
        targets.distance_and_radius(box, level, x, y)
        for box in case.boxes[image] if targets.may_regress(box, level, x, y)
    ]
    best = min(d / r for d, r in near)
    return len({(d, r)
                for d, r in near if d > 0 and d / r <= best * (1 + 1e-6)}) > 1


#: Two objects of one size, each as near as the other to the cell between.
TIE = Case((Level(8, 6, 6, 0, 1e7), ), (((8., 12., 32., 28.),
                                         (24., 12., 48., 28.)), ), ((0, 1), ))


@SETTINGS
@run_also(TIE)
@run_also(TIE._replace(boxes=(TIE.boxes[0][::-1], )))
@given(cases())
def test_regression_targets(case):
    found = compute(case)
    wanted = regression(case)
    rows = found.reg_inds.tolist()
    assert rows == sorted(wanted)
    ltrb = dict(zip(rows, map(tuple, found.reg_targets.tolist())))
    for index, level, image, x, y in cells(case):
        if index in wanted and not rounding_decides(case, level, image, x, y):
            assert ltrb[index] == wanted[index], (index, level, image, x, y)


def test_tie_is_a_tie():
    """The example above has a cell where only the order can decide."""
    level, boxes = TIE.levels[0], TIE.boxes[0]
    assert [
        targets.distance_and_radius(box, level, 3, 2) for box in boxes
    ] == [(64, 16)] * 2
    assert all(targets.may_regress(box, level, 3, 2) for box in boxes)
    assert targets.ltrb_at(boxes[0], level, 3, 2) != targets.ltrb_at(
        boxes[1], level, 3, 2)
    assert targets.regression_owner(boxes, level, 3, 2) == 0


@SETTINGS
@given(cases())
def test_positives(case):
    wanted = [
        p for p in targets.base_positives(case.boxes, case.labels, case.levels)
        if 0 <= p.index < len(cells(case))  # others have no row at all
    ]
    found = compute(case, NUM_CLASSES)
    assert found.pos_inds.tolist() == [p.index for p in wanted]
    assert found.pos_labels.tolist() == [p.label for p in wanted]
    agnostic = compute(case)
    assert agnostic.pos_inds.tolist() == [p.index for p in wanted]
    assert agnostic.pos_labels.tolist() == [0] * len(wanted)


class TestWorkedExample:
    """Spec §3.7, every number."""

    case = Case(example.LEVELS, example.BOXES, example.LABELS)

    def test_positives(self):
        found = compute(self.case, example.NUM_CLASSES)
        assert found.pos_inds.tolist() == example.POS_INDS
        assert found.pos_labels.tolist() == example.POS_LABELS

    def test_regression(self):
        found = compute(self.case)
        assert found.reg_inds.tolist() == list(example.REGRESSION)
        assert found.reg_targets.tolist() == [
            list(row) for row in example.REGRESSION.values()
        ]

    def test_heatmap(self):
        heat = compute(self.case).heatmap[:, 0]
        assert len(heat) == example.NUM_ROWS
        found = {i: heat[i].item() for i in heat.nonzero()[:, 0].tolist()}
        assert found == pytest.approx(example.HEATMAP, abs=6e-7)

    def test_class_heatmaps(self):
        heat = compute(self.case, example.NUM_CLASSES).heatmap
        for row, values in example.CLASS_HEATMAPS.items():
            assert heat[row].tolist() == pytest.approx(values, abs=6e-5)


def test_no_objects_at_all():
    case = Case((Level(8, 4, 4, 0, 1e7), ), ((), ()), ((), ()))
    found = compute(case)
    assert found.heatmap.shape == (32, 1)
    assert not found.heatmap.any()
    assert found.pos_inds.shape == found.pos_labels.shape == (0, )
    assert found.reg_inds.shape == (0, )
    assert found.reg_targets.shape == (0, 4)


def test_object_between_the_ranges_of_all_levels():
    """Negative weights around it go down, but nothing is positive."""
    levels = (Level(8, 4, 4, 0, 5), Level(16, 2, 2, 20, 30))
    found = compute(Case(levels, (((4., 4., 20., 20.), ), ), ((0, ), )))
    assert found.pos_inds.numel() == found.reg_inds.numel() == 0
    assert (found.heatmap == 1).sum() == 2


def test_both_ends_of_a_range_count():
    """Q22: half diagonal 20 belongs to both levels."""
    levels = (Level(8, 6, 6, 0, 20), Level(16, 3, 3, 20, 40))
    found = compute(Case(levels, (((8., 4., 32., 36.), ), ), ((0, ), )))
    assert found.pos_inds.tolist() == [
        flat_index(levels, 1, 0, 0, 2, 2),
        flat_index(levels, 1, 1, 0, 1, 1)
    ]
    assert found.reg_inds.min() < 36 <= found.reg_inds.max()


def test_targets_have_no_gradient():
    boxes = torch.tensor([[4., 4., 28., 28.]], requires_grad=True)
    layout = LevelLayout.build([(4, 4)], [8], 1, torch.device('cpu'))
    found = center_targets(
        BatchBoxes.collate([boxes], [torch.tensor([0])]), layout,
        torch.tensor([[0, 1e7]]))
    assert not found.heatmap.requires_grad
    assert not found.reg_targets.requires_grad
