"""Grouping by aspect ratio with squares among the tall images."""

import pytest
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler

from .labelled import Labelled

WIDE, TALL, SQUARE = (40, 30), (30, 40), (35, 35)
SIZES = [WIDE, TALL, SQUARE, WIDE, WIDE, TALL, TALL]


def build(batch_size=2, **kwargs):
    sampler = DefaultSampler(Labelled([[0]] * len(SIZES), sizes=SIZES), shuffle=False)
    return DATA_SAMPLERS.build(
        dict(
            type='OriginalAspectRatioBatchSampler', sampler=sampler, batch_size=batch_size, **kwargs
        )
    )


def test_squares_are_with_the_tall():
    assert list(build()) == [[1, 2], [0, 3], [5, 6], [4]]
    assert list(build(3)) == [[0, 3, 4], [1, 2, 5], [6]]


def test_remainders_can_be_dropped():
    assert list(build(drop_last=True)) == [[1, 2], [0, 3], [5, 6]]


def test_again_from_the_start():
    batches = build(4)
    assert list(batches) == list(batches)


def test_arguments_are_mmdet_s():
    with pytest.raises(ValueError, match='batch_size'):
        build(0)
