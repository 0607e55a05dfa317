"""Last steps on detections."""
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet_centernet2.models.task_modules import finish_detections
from tests.reference import adapters
from tests.reference.cascade import Detection, final_detections

META = dict(
    img_shape=(100, 200), ori_shape=(50, 400), scale_factor=(0.5, 2.0))
BOXES = [(10., 20., 60., 80.), (-5., -5., 300., 300.), (201., 5., 230., 9.),
         (40., 99.5, 60., 120.), (-9., 3., 0., 8.)]


def results() -> InstanceData:
    return InstanceData(
        bboxes=torch.tensor(BOXES),
        scores=torch.tensor([.9, .8, .7, .6, .5]),
        labels=torch.arange(5))


def test_rescale_clip_and_drop():
    found = finish_detections(results(), META, rescale=True)
    assert found.bboxes.tolist() == [[20, 10, 120, 40], [0, 0, 400, 50],
                                     [80, 49.75, 120, 50]]
    assert found.labels.tolist() == [0, 1, 3]
    assert found.scores.tolist() == pytest.approx([.9, .8, .6])


def test_network_pixels():
    found = finish_detections(results(), META, rescale=False)
    assert found.bboxes.tolist() == [[10, 20, 60, 80], [0, 0, 200, 100],
                                     [40, 99.5, 60, 100]]
    assert found.labels.tolist() == [0, 1, 3]


def test_reference_agrees():
    fused = [[.9 - .1 * i if i == j else 0. for j in range(5)]
             for i in range(5)]
    wanted = final_detections(fused, BOXES, META['img_shape'],
                              META['ori_shape'])
    found = finish_detections(results(), META, rescale=True)
    assert wanted == [
        Detection(pytest.approx(score), label, box)
        for score, label, box in zip(found.scores.tolist(),
                                     found.labels.tolist(),
                                     adapters.to_boxes(found.bboxes))
    ]


def test_no_detection():
    empty = InstanceData(
        bboxes=torch.zeros(0, 4),
        scores=torch.zeros(0),
        labels=torch.zeros(0, dtype=torch.long))
    assert len(finish_detections(empty, META, rescale=True)) == 0
