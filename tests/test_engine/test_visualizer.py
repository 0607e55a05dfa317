"""Pictures: captions beside objects, and a colour for each class."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from mmdet_centernet2.engine import CenterNet2Visualizer
from mmdet_centernet2.engine.visualizer import caption_place

GREY = np.full((240, 320, 3), 90, np.uint8)
#: Crowded small objects, one in each corner, and a large one.
SMALL = np.array(
    [(x, y) for y in range(60, 200, 40) for x in range(60, 260, 60)]
    + [(0, 0), (308, 0), (0, 228), (308, 228)]
)
BOXES = np.vstack([np.hstack([SMALL, SMALL + 11]), [(40, 30, 280, 210)]])


def draw(kind=CenterNet2Visualizer, meta=None, **extra):
    visualizer = kind()
    visualizer.dataset_meta = meta or {}
    found = InstanceData(
        bboxes=torch.tensor(BOXES, dtype=torch.float32),
        labels=torch.arange(len(BOXES)) % 2,
        scores=torch.full((len(BOXES),), 0.5),
        **extra,
    )
    visualizer.add_datasample('name', GREY, DetDataSample(pred_instances=found), draw_gt=False)
    return visualizer.get_image()


def covered(picture) -> list:
    """Small objects whose inner pixels are not what they were."""
    return [(x, y) for x, y in SMALL if (picture[y + 4 : y + 8, x + 4 : x + 8] != 90).any()]


def test_captions_cover_no_small_object():
    meta = dict(classes=('cat', 'traffic light'), palette=[(0, 0, 255)] * 2)
    picture = draw(meta=meta)
    assert covered(picture) == []
    assert (picture < 50).all(2).sum() > 100 * len(BOXES)  # behind the texts
    # as mmdet does it, they do
    assert len(covered(draw(DetLocalVisualizer, meta))) > 10


@pytest.mark.parametrize('palette', [[(57, 255, 20)], None, 'random'])
def test_classes_without_a_colour_get_one(palette):
    picture = draw(meta=dict(classes=('cat', 'dog'), palette=palette))
    left, right = picture[66, 60].astype(int), picture[66, 120].astype(int)
    assert np.abs(left - right).sum() > 150


def test_labels_without_a_name_are_drawn():
    draw(meta=dict(classes=('cat',)))


def test_captions_lie_on_top_of_masks():
    masks = torch.ones((len(BOXES), *GREY.shape[:2]), dtype=torch.bool)
    picture = draw(meta=dict(classes=('cat', 'dog')), masks=masks)
    assert (picture < 50).all(2).sum() > 100 * len(BOXES)


def test_nothing_found_is_the_image_itself():
    visualizer = CenterNet2Visualizer()
    none = InstanceData(
        bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long)
    )
    visualizer.add_datasample('name', GREY, DetDataSample(pred_instances=none), draw_gt=False)
    assert np.array_equal(visualizer.get_image(), GREY)


@pytest.mark.parametrize(
    'box, others, expected',
    [
        ((40, 40, 60, 60), [], (40, 28)),  # above
        ((40, 5, 60, 25), [], (40, 27)),  # no room there: below
        ((40, 40, 60, 60), [(40, 30, 50, 36)], (40, 62)),  # taken: below
        ((40, 40, 60, 60), [(40, 30, 50, 36), (40, 64, 50, 70)], (62, 40)),
        ((0, 0, 100, 100), [], (0, 0)),  # the whole image: on it
    ],
)
def test_place_of_a_caption(box, others, expected):
    taken = np.array([box, *others], float)
    place = caption_place(np.array(box), (30, 10), (100, 100), taken)
    assert place.tolist() == [*expected, expected[0] + 30, expected[1] + 10]
