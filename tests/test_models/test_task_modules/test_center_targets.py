"""Targets of the first stage against the slow reference."""

import pytest
import torch
from hypothesis import example as run_also
from hypothesis import given
from hypothesis import strategies as st

from mmdet_centernet2.models.task_modules import (
    BatchBoxes,
    CenterTargets,
    LevelLayout,
    center_targets,
    flatten_levels,
    mine_positives,
)
from tests.reference import adapters, targets
from tests.reference.cases import SETTINGS, Case, cases, level_sets
from tests.reference.dense import dense_center_targets
from tests.reference.layout import Level, flat_index

from . import worked_example as example

NUM_CLASSES = 3


def inputs(case: Case) -> tuple[BatchBoxes, LevelLayout, torch.Tensor]:
    """Objects, layout and half-diagonal ranges."""
    instances = adapters.to_instances(case.boxes, case.labels)
    layout = LevelLayout.build(
        adapters.map_sizes(case.levels),
        adapters.strides(case.levels),
        len(case.boxes),
        torch.device('cpu'),
    )
    gt = BatchBoxes.collate([g.bboxes for g in instances], [g.labels for g in instances])
    return gt, layout, torch.tensor(adapters.ranges(case.levels))


def compute(case: Case, num_classes: int = 1) -> CenterTargets:
    """Targets of the package."""
    return center_targets(*inputs(case), num_classes)


def heatmap(found: CenterTargets, case: Case, num_classes: int = 1) -> torch.Tensor:
    """Heat as a dense map, of the highest value of each cell."""
    dense = torch.zeros(len(cells(case)), num_classes)
    for row, label, value in zip(*(part.tolist() for part in found[:3])):
        dense[row, label] = max(dense[row, label], value)
    return dense


def positives(found: CenterTargets) -> list[tuple[int, int]]:
    """(row, class) of the positives, in order."""
    pairs = zip(found.pos_inds.tolist(), found.pos_labels.tolist())
    return [pair for pair in pairs if pair[0] != -1]


def boxes_of_rows(found: CenterTargets) -> dict[int, tuple[float, ...]]:
    """Regression target of each row that has one, rows ascending."""
    pairs = [
        (row, tuple(ltrb))
        for row, ltrb in zip(found.reg_inds.tolist(), found.reg_targets.tolist())
        if row != -1
    ]
    assert len(pairs) == len(dict(pairs))
    return dict(sorted(pairs))


def cells(case: Case) -> list[tuple[int, Level, int, int, int]]:
    """All (flat index, level, image, x, y) of a batch."""
    batch = len(case.boxes)
    return [
        (flat_index(case.levels, batch, i, image, x, y), level, image, x, y)
        for i, level in enumerate(case.levels)
        for image in range(batch)
        for y in range(level.height)
        for x in range(level.width)
    ]


def assert_heats_agree(found: list[float], wanted: list[float]) -> None:
    """Equal up to rounding, which may also decide what is below 1e-4."""
    for row, (a, b) in enumerate(zip(found, wanted)):
        at_cut = min(a, b) == 0 and max(a, b) < 1.0001e-4
        assert a == pytest.approx(b, rel=2e-5) or at_cut, (row, a, b)


@SETTINGS
@given(cases())
def test_agnostic_heatmap(case):
    found = heatmap(compute(case), case)
    wanted = [targets.heat(case.boxes[image], level, x, y) for _, level, image, x, y in cells(case)]
    assert_heats_agree(found[:, 0].tolist(), wanted)


@SETTINGS
@given(cases(max_objects=4))
def test_class_heatmaps(case):
    found = heatmap(compute(case, NUM_CLASSES), case, NUM_CLASSES)
    wanted = [
        targets.class_heat(case.boxes[image], case.labels[image], level, x, y, NUM_CLASSES)
        for _, level, image, x, y in cells(case)
    ]
    assert_heats_agree(found.flatten().tolist(), sum(wanted, []))


def regression(case: Case) -> dict[int, targets.Ltrb]:
    """Regression targets of the reference, by flat index."""
    wanted = {}
    for index, level, image, x, y in cells(case):
        boxes = case.boxes[image]
        owner = targets.regression_owner(boxes, level, x, y)
        if owner is not None:
            wanted[index] = targets.ltrb_at(boxes[owner], level, x, y)
    return wanted


def rounding_decides(case: Case, level: Level, image: int, x: int, y: int) -> bool:
    """Whether objects of different size are equally near to a cell.

    Their quotients are then equal but for rounding. Objects of one size are
    not meant: their quotients are the same in any precision.
    """
    near = [
        targets.distance_and_radius(box, level, x, y)
        for box in case.boxes[image]
        if targets.may_regress(box, level, x, y)
    ]
    best = min(d / r for d, r in near)
    return len({(d, r) for d, r in near if d > 0 and d / r <= best * (1 + 1e-6)}) > 1


#: Two objects of one size, each as near as the other to the cell between.
TIE = Case(
    (Level(8, 6, 6, 0, 1e7),), (((8.0, 12.0, 32.0, 28.0), (24.0, 12.0, 48.0, 28.0)),), ((0, 1),)
)


@SETTINGS
@run_also(TIE)
@run_also(TIE._replace(boxes=(TIE.boxes[0][::-1],)))
@given(cases())
def test_regression_targets(case):
    ltrb = boxes_of_rows(compute(case))
    wanted = regression(case)
    assert list(ltrb) == sorted(wanted)
    for index, level, image, x, y in cells(case):
        if index in wanted and not rounding_decides(case, level, image, x, y):
            assert ltrb[index] == wanted[index], (index, level, image, x, y)


def test_tie_is_a_tie():
    """The example above has a cell where only the order can decide."""
    level, boxes = TIE.levels[0], TIE.boxes[0]
    assert [targets.distance_and_radius(box, level, 3, 2) for box in boxes] == [(64, 16)] * 2
    assert all(targets.may_regress(box, level, 3, 2) for box in boxes)
    assert targets.ltrb_at(boxes[0], level, 3, 2) != targets.ltrb_at(boxes[1], level, 3, 2)
    assert targets.regression_owner(boxes, level, 3, 2) == 0


@SETTINGS
@given(cases())
def test_positives(case):
    wanted = [
        p
        for p in targets.base_positives(case.boxes, case.labels, case.levels)
        if 0 <= p.index < len(cells(case))  # others have no row at all
    ]
    assert positives(compute(case, NUM_CLASSES)) == wanted
    assert positives(compute(case)) == [(p.index, 0) for p in wanted]


@SETTINGS
@run_also(TIE)
@given(cases(max_objects=8))
def test_dense_method_of_the_benchmark(case):
    """It is fair to compare with: bit for bit the same targets."""
    for num_classes in (1, NUM_CLASSES):
        found = compute(case, num_classes)
        wanted = dense_center_targets(*inputs(case), num_classes)
        assert torch.equal(heatmap(found, case, num_classes), wanted.heatmap)
        assert positives(found) == list(zip(wanted.pos_inds.tolist(), wanted.pos_labels.tolist()))
        assert boxes_of_rows(found) == dict(
            zip(wanted.reg_inds.tolist(), map(tuple, wanted.reg_targets.tolist()))
        )


class TestWorkedExample:
    """Every number of the worked example."""

    case = Case(example.LEVELS, example.BOXES, example.LABELS)

    def test_positives(self):
        found = compute(self.case, example.NUM_CLASSES)
        assert positives(found) == list(zip(example.POS_INDS, example.POS_LABELS))

    def test_regression(self):
        assert boxes_of_rows(compute(self.case)) == example.REGRESSION

    def test_heatmap(self):
        heat = heatmap(compute(self.case), self.case)[:, 0]
        assert len(heat) == example.NUM_ROWS
        found = {i: heat[i].item() for i in heat.nonzero()[:, 0].tolist()}
        assert found == pytest.approx(example.HEATMAP, abs=6e-7)

    def test_class_heatmaps(self):
        found = compute(self.case, example.NUM_CLASSES)
        heat = heatmap(found, self.case, example.NUM_CLASSES)
        for row, values in example.CLASS_HEATMAPS.items():
            assert heat[row].tolist() == pytest.approx(values, abs=6e-5)


def test_no_objects_at_all():
    case = Case((Level(8, 4, 4, 0, 1e7),), ((), ()), ((), ()))
    found = compute(case)
    assert [len(part) for part in found[:3]] == [0] * 3
    assert found.pos_inds.shape == found.pos_labels.shape == (0,)
    assert found.reg_inds.shape == (0,)
    assert found.reg_targets.shape == (0, 4)


def test_object_between_the_ranges_of_all_levels():
    """Negative weights around it go down, but nothing is positive."""
    levels = (Level(8, 4, 4, 0, 5), Level(16, 2, 2, 20, 30))
    case = Case(levels, (((4.0, 4.0, 20.0, 20.0),),), ((0,),))
    found = compute(case)
    assert not positives(found) and not boxes_of_rows(found)
    assert (heatmap(found, case) == 1).sum() == 2


def test_both_ends_of_a_range_count():
    """Half diagonal 20 belongs to both levels."""
    levels = (Level(8, 6, 6, 0, 20), Level(16, 3, 3, 20, 40))
    found = compute(Case(levels, (((8.0, 4.0, 32.0, 36.0),),), ((0,),)))
    assert positives(found) == [
        (flat_index(levels, 1, 0, 0, 2, 2), 0),
        (flat_index(levels, 1, 1, 0, 1, 1), 0),
    ]
    rows = list(boxes_of_rows(found))
    assert rows[0] < 36 <= rows[-1]


def test_targets_have_no_gradient():
    boxes = torch.tensor([[4.0, 4.0, 28.0, 28.0]], requires_grad=True)
    layout = LevelLayout.build([(4, 4)], [8], 1, torch.device('cpu'))
    found = center_targets(
        BatchBoxes.collate([boxes], [torch.tensor([0])]), layout, torch.tensor([[0, 1e7]])
    )
    assert not found.heat_values.requires_grad
    assert not found.reg_targets.requires_grad


LEVELS = (Level(8, 11, 7, 0, 24), Level(16, 6, 4, 20, 1e7))


def layout_of(levels, batch: int) -> LevelLayout:
    return LevelLayout.build(
        adapters.map_sizes(levels), adapters.strides(levels), batch, torch.device('cpu')
    )


@SETTINGS
@given(level_sets())
def test_rows_and_flattened_maps_are_in_the_reference_order(levels):
    batch = 2
    layout = layout_of(levels, batch)
    maps = [torch.full((batch, 3, level.height, level.width), -1.0) for level in levels]
    for i, level in enumerate(levels):
        for image in range(batch):
            for y in range(level.height):
                for x in range(level.width):
                    index = flat_index(levels, batch, i, image, x, y)
                    maps[i][image, :, y, x] = torch.tensor([index, index + 0.25, index + 0.5])
                    row = layout.rows(*[torch.tensor(v) for v in (i, image, y, x)])
                    assert row.item() == index
    flat = flatten_levels(maps)
    rows = torch.arange(layout.num_rows)
    assert torch.equal(flat, torch.stack([rows, rows + 0.25, rows + 0.5], 1))
    for label in range(3):
        places = layout.elements(rows, torch.full_like(rows, label), 3)
        joined = torch.cat([level.flatten() for level in maps])
        assert torch.equal(joined[places], flat[:, label])


def test_stride_for_each_level_is_asked_for():
    with pytest.raises(ValueError, match='2 feature maps but 3 strides'):
        LevelLayout.build([(4, 4), (2, 2)], [8, 16, 32], 1, torch.device('cpu'))


def test_no_row_is_no_element():
    layout = LevelLayout.build([(4, 4), (2, 2)], [8, 16], 2, torch.device('cpu'))
    rows = torch.tensor([-1, 0, 39])
    labels = torch.tensor([2, 0, 2])
    assert layout.elements(rows, labels, 1).tolist() == [-1, 0, 39]
    assert layout.elements(rows, labels, 3).tolist() == [-1, 0, 119]


def mined(case: Case, predicted: torch.Tensor) -> list:
    """Positives of the package, chosen by the predicted boxes."""
    rows, labels = mine_positives(*inputs(case), predicted)
    pairs = zip(rows.tolist(), labels.tolist())
    return [targets.Positive(*pair) for pair in pairs if pair[0] != -1]


def predictions(case: Case, seed: int, noise: float) -> torch.Tensor:
    """ltrb of every cell, near those of one of its image's objects."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for level in case.levels:
        for boxes in case.boxes:
            for y in range(level.height):
                for x in range(level.width):
                    owner = torch.randint(99, (), generator=generator).item()
                    rows.append(
                        targets.ltrb_at(boxes[owner % len(boxes)], level, x, y)
                        if boxes
                        else (2.0, 2.0, 2.0, 2.0)
                    )
    exact = torch.tensor(rows)
    spread = torch.randn(exact.shape, generator=generator) * noise
    return (exact + spread).clamp(min=0)


@SETTINGS
@given(cases(), st.integers(0, 10**6), st.sampled_from([0.05, 0.3, 1.0]))
def test_mined_positives(case, seed, noise):
    predicted = predictions(case, seed, noise)
    wanted = targets.more_positives(
        case.boxes, case.labels, case.levels, predicted.double().tolist()
    )
    total = len(predicted)
    assert mined(case, predicted) == [p for p in wanted if 0 <= p.index < total]


def test_mined_positives_of_the_worked_example():
    """Every prediction is (2, 2, 2, 2)."""
    case = Case(example.LEVELS, example.BOXES, example.LABELS)
    assert mined(case, torch.full((example.NUM_ROWS, 4), 2.0)) == example.MORE_POSITIVES


def test_neighbour_on_a_level_of_another_size():
    """The object's size is that of the first level only."""
    levels = (Level(8, 6, 6, 0, 24), Level(16, 3, 3, 40, 1e7))
    case = Case(levels, (((8.0, 8.0, 40.0, 40.0),),), ((1,),))
    predicted = torch.full((45, 4), 50.0)
    row = flat_index(levels, 1, 1, 0, 0, 1)
    predicted[row] = torch.tensor(targets.ltrb_at(case.boxes[0][0], levels[1], 0, 1)) + 0.01
    assert mined(case, predicted) == [(flat_index(levels, 1, 0, 0, 3, 3), 1), (row, 1)]


def test_nothing_is_mined_without_objects():
    case = Case((Level(8, 2, 2, 0, 1e7),), ((), ()), ((), ()))
    assert mined(case, torch.ones(8, 4)) == []
