"""The reference itself, on numbers that the original computed."""

import pytest

from tests.reference import cascade, targets
from tests.reference.layout import Level, assigned_levels, flat_index
from tests.reference.losses import giou_loss, heatmap_losses, iou_loss, linear_iou_loss

from . import worked_example as example


def _cells():
    """All (flat index, level, image, x, y) of the worked example."""
    for i, level in enumerate(example.LEVELS):
        for image in range(2):
            for y in range(level.height):
                for x in range(level.width):
                    yield (flat_index(example.LEVELS, 2, i, image, x, y), level, image, x, y)


def test_flat_order_counts_all_rows():
    assert [cell[0] for cell in _cells()] == list(range(example.NUM_ROWS))


def test_heatmap():
    values = {
        index: targets.heat(example.BOXES[image], level, x, y)
        for index, level, image, x, y in _cells()
    }
    found = {index: value for index, value in values.items() if value > 0}
    assert found == pytest.approx(example.HEATMAP, abs=6e-7)


def test_class_heatmaps():
    for index, level, image, x, y in _cells():
        if index in example.CLASS_HEATMAPS:
            values = targets.class_heat(
                example.BOXES[image], example.LABELS[image], level, x, y, example.NUM_CLASSES
            )
            assert values == pytest.approx(example.CLASS_HEATMAPS[index], abs=6e-5)


def test_regression_targets():
    found = {}
    for index, level, image, x, y in _cells():
        owner = targets.regression_owner(example.BOXES[image], level, x, y)
        if owner is not None:
            found[index] = targets.ltrb_at(example.BOXES[image][owner], level, x, y)
    assert found == example.REGRESSION


def test_base_positives():
    found = targets.base_positives(example.BOXES, example.LABELS, example.LEVELS)
    assert [p.index for p in found] == example.POS_INDS
    assert [p.label for p in found] == example.POS_LABELS


def test_more_positives():
    found = targets.more_positives(
        example.BOXES, example.LABELS, example.LEVELS, [(2, 2, 2, 2)] * example.NUM_ROWS
    )
    assert found == example.MORE_POSITIVES


def test_more_positives_level_masks():
    assert [
        [targets.centre_counts(box, level) for level in example.LEVELS] for box in example.BOXES[0]
    ] == example.CENTRE_COUNTS


def test_nine_perfect_cells_leave_no_positive():
    """None costs strictly less than the ninth cheapest."""
    levels = (Level(8, 8, 8, 0, 1e7),)
    box = (8.0, 8.0, 56.0, 56.0)
    predicted = [targets.ltrb_at(box, levels[0], i % 8, i // 8) for i in range(64)]
    assert targets.more_positives([[box]], [[0]], levels, predicted) == []
    predicted[3 * 8 + 3] = (9.0, 9.0, 9.0, 9.0)  # the first of the nine
    found = targets.more_positives([[box]], [[0]], levels, predicted)
    assert len(found) == 8


def test_both_ends_of_a_range_count():
    levels = (Level(8, 9, 9, 0, 5), Level(16, 9, 9, 5, 8))
    assert assigned_levels((0, 0, 6, 8), levels) == [0, 1]
    assert assigned_levels((0, 0, 6, 8.25), levels) == [1]
    assert assigned_levels((0, 0, 12, 16.25), levels) == []


def test_heatmap_losses():
    logits, heats = [-4, -1, 0, 1.5, 3], [0, 0.3, 1, 0.8, 0]
    pos, neg = heatmap_losses(logits, heats, [2, 3])
    assert (float(pos), float(neg)) == pytest.approx((0.0449974, 2.0801599))
    pos, neg = heatmap_losses(logits, heats, [2, 3], ignore_above=0.85)
    assert (float(pos), float(neg)) == pytest.approx((0.0449974, 0.0054493), abs=6e-8)


@pytest.mark.parametrize(
    'predicted, target, giou, iou, linear',
    [
        ((1, 2, 3, 4), (1, 2, 3, 4), 0, 0, 0),
        ((0,) * 4, (1,) * 4, 0.8, 1.60944, 0.8),
        ((2,) * 4, (1,) * 4, 0.705882, 1.223775, 0.705882),
        ((0.5,) * 4, (0.2,) * 4, 0.42, 0.544727, 0.42),
    ],
)
def test_box_losses(predicted, target, giou, iou, linear):
    values = [float(loss(predicted, target)) for loss in (giou_loss, iou_loss, linear_iou_loss)]
    assert values == pytest.approx([giou, iou, linear], abs=3e-6)


@pytest.mark.parametrize(
    'side, level',
    [
        (1, 3),
        (223.99, 3),
        (224, 4),
        (447.99, 4),
        (448, 5),
        (895.99, 5),
        (896, 6),
        (1791.99, 6),
        (1792, 7),
        (5000, 7),
    ],
)
def test_roi_levels(side, level):
    assert cascade.roi_level((0, 0, side, side), 3, 7) == level


def test_codec_inverts():
    box, target = (10.0, 20.0, 50.0, 40.0), (5.0, 22.0, 61.0, 70.0)
    for weights in cascade.WEIGHTS:
        deltas = cascade.encode(box, target, weights)
        assert cascade.decode(box, deltas, weights) == pytest.approx(target)
