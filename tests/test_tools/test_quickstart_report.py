"""What the pictures of a run show."""

import cv2
import numpy as np

from tools.quickstart.progress import clock
from tools.quickstart.report import Prediction, right_ones, save_loss_curve, save_picture, smooth

TRUTH = np.array([[0.0, 0, 10, 10], [20, 20, 40, 40]])


def test_an_object_is_found_once_and_by_the_best_score():
    boxes = np.array([[0.0, 0, 10, 9], [0, 0, 10, 10], [22, 20, 40, 40], [60, 60, 70, 70]])
    hit = right_ones(boxes, np.array([0.5, 0.9, 0.3, 0.8]), TRUTH)
    assert hit.tolist() == [False, True, True, False]


def test_nothing_to_find_and_nothing_found():
    empty = np.zeros((0, 4))
    assert right_ones(TRUTH, np.array([0.5, 0.9]), empty).tolist() == [0, 0]
    assert right_ones(empty, np.zeros(0), TRUTH).tolist() == []


def test_smoothing_averages_the_last_values():
    assert smooth([1, 3, 5, 7], 2).tolist() == [1, 2, 4, 6]
    assert smooth([4], 9).tolist() == [4]


def test_clock_reads_minutes_and_seconds():
    assert clock(425.4) == '7:05' and clock(-1) == '0:00'


def _prediction(name, boxes, scores):
    return Prediction(
        name,
        np.full((60, 80, 3), 90, np.uint8),
        TRUTH,
        np.array(boxes, float).reshape(-1, 4),
        np.array(scores, float),
    )


def test_pictures_are_drawn_with_and_without_detections(tmp_path):
    images = []
    for name, *found in (('one', [[20, 20, 40, 40], [1, 1, 9, 9]], [0.9, 0.2]), ('none', [], [])):
        path = tmp_path / f'{name}.png'
        save_picture(_prediction('a.png', *found), path, 0.3)
        images.append(cv2.imread(str(path)).astype(int))
    assert images[0].shape == images[1].shape
    # the boxes on the left agree, those on the right do not
    middle = images[0].shape[1] // 2
    assert np.abs(images[0] - images[1])[:, middle:].max() > 50


def test_loss_curve_is_drawn_from_one_iteration_on(tmp_path):
    save_loss_curve({'loss': [2.0], 's0.loss_cls': [1.0]}, tmp_path / 'a.png')
    assert cv2.imread(str(tmp_path / 'a.png')) is not None
