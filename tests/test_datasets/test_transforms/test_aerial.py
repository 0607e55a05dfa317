"""Turning photographs and cutting objects as the tree tiles are cut."""

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes

from mmdet_centernet2.datasets.transforms import KeepBoxesByCenter, RandomQuarterTurns


def _results(boxes, height=40, width=60):
    """An image whose objects are painted with their number."""
    image = np.zeros((height, width, 3), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = number
    return dict(
        img=image,
        img_shape=(height, width),
        gt_bboxes=HorizontalBoxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        gt_bboxes_labels=np.arange(len(boxes)),
        gt_ignore_flags=np.zeros(len(boxes), dtype=bool),
    )


@pytest.mark.parametrize('turns', range(4))
def test_boxes_follow_the_pixels(turns, monkeypatch):
    monkeypatch.setattr(RandomQuarterTurns, '_turns', lambda self: turns)
    out = RandomQuarterTurns()(_results([(5, 3, 20, 9), (30, 10, 35, 38)]))
    assert out['img_shape'] == ((40, 60) if turns % 2 == 0 else (60, 40))
    assert out['img'].shape[:2] == out['img_shape']
    assert out['img'].flags.c_contiguous
    for number, box in enumerate(out['gt_bboxes'].tensor.int().tolist(), 1):
        rows, columns = np.nonzero(out['img'][..., 0] == number)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_a_quarter_turn_by_hand(monkeypatch):
    monkeypatch.setattr(RandomQuarterTurns, '_turns', lambda self: 1)
    out = RandomQuarterTurns()(_results([(5, 3, 20, 9)]))
    assert out['gt_bboxes'].tensor.tolist() == [[3, 40, 9, 55]]


def test_images_without_objects_turn_too():
    results = _results([])
    del results['gt_bboxes']
    assert RandomQuarterTurns()(results)['img'].size == 40 * 60 * 3


def test_every_turn_comes_up():
    np.random.seed(0)
    assert {RandomQuarterTurns()._turns() for _ in range(60)} == {0, 1, 2, 3}


def test_the_centre_decides_and_the_rest_is_clipped():
    results = _results(
        [
            (-10, 5, 14, 20),  # centre at x = 2: kept and clipped
            (-14, 5, 10, 20),  # centre at x = -2: dropped
            (50, 30, 70, 48),  # centre at (60, 39), on the right border: dropped
            (50, 30, 68, 46),  # centre at (59, 38): kept and clipped
        ]
    )
    out = KeepBoxesByCenter()(results)
    assert out['gt_bboxes'].tensor.tolist() == [[0, 5, 14, 20], [50, 30, 60, 40]]
    assert out['gt_bboxes_labels'].tolist() == [0, 3]
    assert len(out['gt_ignore_flags']) == 2


def test_nothing_to_keep():
    for boxes in ([], [(-30, -30, -10, -10)]):
        out = KeepBoxesByCenter()(_results(boxes))
        assert out['gt_bboxes'].tensor.shape == (0, 4)
        assert len(out['gt_bboxes_labels']) == 0
