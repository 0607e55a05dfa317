"""Positives chosen by the predicted boxes, against the slow reference."""
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmdet_centernet2.models.task_modules import BatchBoxes, LevelLayout
from mmdet_centernet2.models.task_modules.positive_mining import mine_positives
from tests.reference import adapters, targets
from tests.reference.cases import SETTINGS, Case, cases
from tests.reference.layout import Level, flat_index

from . import worked_example as example


def compute(case: Case, predicted: torch.Tensor) -> list:
    """Positives of the package."""
    instances = adapters.to_instances(case.boxes, case.labels)
    layout = LevelLayout.build(
        adapters.map_sizes(case.levels), adapters.strides(case.levels),
        len(case.boxes), torch.device('cpu'))
    rows, labels = mine_positives(
        BatchBoxes.collate([g.bboxes for g in instances],
                           [g.labels for g in instances]), layout,
        torch.tensor(adapters.ranges(case.levels)), predicted)
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
                        if boxes else (2., 2., 2., 2.))
    exact = torch.tensor(rows)
    spread = torch.randn(exact.shape, generator=generator) * noise
    return (exact + spread).clamp(min=0)


@SETTINGS
@given(
    cases(), st.integers(0, 10**6), st.sampled_from([.05, .3, 1.]))
def test_positives(case, seed, noise):
    predicted = predictions(case, seed, noise)
    wanted = targets.more_positives(case.boxes, case.labels, case.levels,
                                    predicted.double().tolist())
    total = len(predicted)
    assert compute(case, predicted) == [
        p for p in wanted if 0 <= p.index < total
    ]


def test_worked_example():
    """Every prediction is (2, 2, 2, 2)."""
    case = Case(example.LEVELS, example.BOXES, example.LABELS)
    assert compute(case, torch.full(
        (example.NUM_ROWS, 4), 2.)) == example.MORE_POSITIVES


def test_neighbour_on_a_level_of_another_size():
    """The object's size is that of the first level only."""
    levels = (Level(8, 6, 6, 0, 24), Level(16, 3, 3, 40, 1e7))
    case = Case(levels, (((8., 8., 40., 40.), ), ), ((1, ), ))
    predicted = torch.full((45, 4), 50.)
    row = flat_index(levels, 1, 1, 0, 0, 1)
    predicted[row] = torch.tensor(
        targets.ltrb_at(case.boxes[0][0], levels[1], 0, 1)) + .01
    assert compute(case, predicted) == [(flat_index(levels, 1, 0, 0, 3, 3), 1),
                                        (row, 1)]


def test_no_objects():
    case = Case((Level(8, 2, 2, 0, 1e7), ), ((), ()), ((), ()))
    assert compute(case, torch.ones(8, 4)) == []
