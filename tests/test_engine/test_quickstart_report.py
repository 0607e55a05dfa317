"""What the pictures of a run show."""
import cv2
import numpy as np

from mmdet_centernet2.engine.quickstart.matching import (match_detections,
                                                         pairwise_iou)
from mmdet_centernet2.engine.quickstart.progress import clock
from mmdet_centernet2.engine.quickstart.report import (Prediction,
                                                       save_loss_curve,
                                                       save_pictures, smooth)

TRUTH = np.array([[0., 0, 10, 10], [20, 20, 40, 40]])


def test_iou_worked_by_hand():
    iou = pairwise_iou(np.array([[0., 0, 10, 10], [0, 0, 5, 10]]), TRUTH)
    np.testing.assert_allclose(iou, [[1, 0], [0.5, 0]])
    assert pairwise_iou(np.zeros((1, 4)), np.zeros((2, 4))).tolist() == [[
        0, 0
    ]]


def test_an_object_is_found_once_and_by_the_best_score():
    boxes = np.array([[0., 0, 10, 9], [0, 0, 10, 10], [22, 20, 40, 40],
                      [60, 60, 70, 70]])
    hit, found = match_detections(boxes, np.array([.5, .9, .3, .8]), TRUTH)
    assert hit.tolist() == [False, True, True, False]
    assert found.tolist() == [True, True]


def test_nothing_to_find_and_nothing_found():
    empty = np.zeros((0, 4))
    hit, found = match_detections(TRUTH, np.array([.5, .9]), empty)
    assert hit.tolist() == [False, False] and len(found) == 0
    hit, found = match_detections(empty, np.zeros(0), TRUTH)
    assert len(hit) == 0 and found.tolist() == [False, False]


def test_smoothing_averages_the_last_values():
    assert smooth([1, 3, 5, 7], 2).tolist() == [1, 2, 4, 6]
    assert smooth([4], 9).tolist() == [4]


def test_clock_reads_minutes_and_seconds():
    assert clock(425.4) == '7:05' and clock(-1) == '0:00'


def _prediction(name, boxes, scores):
    return Prediction(name, np.full((60, 80, 3), 90, np.uint8), TRUTH,
                      np.array(boxes, float).reshape(-1, 4),
                      np.array(scores, float))


def test_pictures_are_drawn_with_and_without_detections(tmp_path):
    with_box = _prediction('one.png', [[20, 20, 40, 40]], [.9])
    without = _prediction('none.png', [], [])
    paths = save_pictures([with_box, without], tmp_path / 'p', 0.3)
    assert [p.name for p in paths] == ['one.png', 'none.png']
    images = [cv2.imread(str(p)).astype(int) for p in paths]
    assert images[0].shape == images[1].shape
    # the boxes on the left agree, those on the right do not
    middle = images[0].shape[1] // 2
    assert np.abs(images[0] - images[1])[:, middle:].max() > 50


def test_detections_under_the_threshold_are_left_out():
    shown = _prediction('a.png', [[0, 0, 9, 9], [1, 1, 8, 8]],
                        [.2, .3]).above(0.3)
    assert shown.scores.tolist() == [.3] and len(shown.boxes) == 1


def test_loss_curve_is_drawn_from_one_iteration_on(tmp_path):
    save_loss_curve({'loss': [2.], 's0.loss_cls': [1.]}, tmp_path / 'a.png')
    assert cv2.imread(str(tmp_path / 'a.png')) is not None
