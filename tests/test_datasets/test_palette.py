"""Colours of classes: as many as asked for, and told apart."""

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS

from mmdet_centernet2.datasets.palette import distinct_palette


def _lab(palette) -> np.ndarray:
    rgb = np.array(palette, np.float32)[None] / 255
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]


@pytest.mark.parametrize('num_classes', [0, 1, 2, 80, 365, 1203])
def test_one_colour_for_each_class_and_always_the_same(num_classes):
    palette = distinct_palette(num_classes)

    assert len(palette) == num_classes
    assert palette == distinct_palette(1203)[:num_classes]
    assert all(type(value) is int for colour in palette for value in colour)


def test_the_first_colours_differ_most():
    lab = _lab(distinct_palette(20))
    distance = np.linalg.norm(lab[:, None] - lab, axis=2)
    distance += np.where(np.eye(20), np.inf, 0)

    assert distance[:2, :2].min() > 120
    assert distance[:10, :10].min() > 45
    assert distance.min() > 25


def test_neighbours_differ_among_many_classes():
    lab = _lab(distinct_palette(1203))

    for step in range(1, 9):
        assert np.linalg.norm(lab[step:] - lab[:-step], axis=1).min() > 25


def test_no_colour_is_near_black_or_white():
    lightness = _lab(distinct_palette(1203))[:, 0]

    assert lightness.min() > 35 and lightness.max() < 92


@pytest.mark.parametrize('name', ['Coco', 'LVIS', 'Objects365'])
@pytest.mark.parametrize('num_classes', [2, 500])
def test_own_classes_have_colours_of_their_own(name, num_classes):
    metainfo = dict(classes=tuple(f'class {i}' for i in range(num_classes)))
    dataset = DATASETS.build(
        dict(type=f'CenterNet2{name}Dataset', metainfo=metainfo, lazy_init=True)
    )
    assert dataset.metainfo['palette'] == distinct_palette(num_classes)
