"""Collecting the classes of the images, through wrappers too."""

import pytest
from mmdet.datasets import MultiImageMixDataset
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset

from mmdet_centernet2.datasets.samplers import image_classes
from mmdet_centernet2.datasets.samplers.image_classes import ImageClasses

from .labelled import Labelled

LABELS = [[2, 2, 0], [], [1]]
PAIRS = [(0, 0), (0, 2), (2, 1)]


def pairs(dataset):
    found = ImageClasses.collect(dataset)
    assert found.num_images == len(dataset)
    return sorted(zip(found.images.tolist(), found.labels.tolist()))


def test_each_pair_once():
    dataset = Labelled(LABELS)
    assert pairs(dataset) == PAIRS
    counts = ImageClasses.collect(dataset).images_per_class()
    assert counts.tolist() == [1, 1, 1]


def test_serialized_data():
    assert pairs(Labelled(LABELS, serialize_data=True)) == PAIRS


def test_wrappers():
    second = [(i + 3, label) for i, label in PAIRS]
    assert pairs(ConcatDataset([Labelled(LABELS), Labelled(LABELS)])) == PAIRS + second
    assert pairs(RepeatDataset(Labelled(LABELS), times=2)) == PAIRS + second
    assert pairs(MultiImageMixDataset(Labelled(LABELS), [])) == PAIRS
    assert pairs(ClassBalancedDataset(Labelled(LABELS), 1e-3)) == PAIRS


def test_progress_is_shown_for_many_images(monkeypatch):
    shown = []

    def track(indices, *args, disable, **kwargs):
        shown.append(not disable)
        return indices

    monkeypatch.setattr(image_classes, 'track', track)
    assert pairs(Labelled(LABELS)) == PAIRS
    monkeypatch.setattr(image_classes, 'MANY_IMAGES', 3)
    assert pairs(Labelled(LABELS)) == PAIRS
    assert shown == [False, True]


def test_nothing_to_count():
    with pytest.raises(ValueError, match='none of its 2 images.*ann_file'):
        ImageClasses.collect(Labelled([[], []]))
