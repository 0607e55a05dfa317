"""Which level an RoI is pooled from."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS

from tests.reference.cascade import roi_level
from tests.reference.cases import SETTINGS

from . import small

#: Side of a box in pixels, level from p3 to p7.
TABLE = [
    (1.0, 0),
    (112.0, 0),
    (223.99, 0),
    (224.0, 1),
    (300.0, 1),
    (447.99, 1),
    (448.0, 2),
    (895.9, 2),
    (896.0, 3),
    (1791.9, 3),
    (1792.0, 4),
    (4000.0, 4),
]


def build(strides=(8, 16, 32, 64, 128), channels: int = 1):
    return MODELS.build(
        dict(
            type='CanonicalRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=channels,
            featmap_strides=list(strides),
        )
    )


def levels_of(boxes, strides=(8, 16, 32, 64, 128)):
    rois = torch.tensor([(0.0, *box) for box in boxes])
    return build(strides).map_roi_levels(rois, len(strides)).tolist()


@pytest.mark.parametrize('side, level', TABLE)
def test_table_of_the_spec(side, level):
    assert levels_of([(0, 0, side, side)]) == [level]


def test_flagship_pools_by_the_same_table():
    rois = torch.tensor([(0.0, 0, 0, side, side) for side, _ in TABLE])
    for extractor in small.build().bbox_roi_extractor:
        assert extractor.map_roi_levels(rois, 5).tolist() == [level for _, level in TABLE]
        assert extractor.featmap_strides == [8, 16, 32, 64, 128]
        for layer in extractor.roi_layers:
            assert layer.output_size == (7, 7)
            assert layer.aligned and layer.sampling_ratio == 0


@pytest.mark.parametrize('strides, last', [((8, 16, 32), 2), ((8, 16), 1), ((4,), 0)])
def test_fewer_levels(strides, last):
    """The rule stays, the last level takes the rest."""
    boxes = [(0, 0, side, side) for side, _ in TABLE]
    wanted = [min(level, last) for _, level in TABLE]
    assert levels_of(boxes, strides) == wanted


@SETTINGS
@given(st.tuples(*[st.integers(1, 3000).map(lambda v: v + 0.375)] * 2))
def test_area_decides(size):
    width, height = size
    box = (-20.0, 30.0, width - 20, height + 30)
    assert levels_of([box]) == [roi_level(box, 3, 7) - 3]


def test_pools_from_that_level():
    """Level number i is the constant i + 1."""
    x = [
        torch.full((1, 1, 1024 // s, 1024 // s), i + 1.0)
        for i, s in enumerate((8, 16, 32, 64, 128))
    ]
    sides = [50.0, 223.0, 224.0, 447.0, 448.0, 895.0, 896.0]
    rois = torch.tensor([(0.0, 50, 50, 50 + s, 50 + s) for s in sides])
    pooled = build()(x, rois)
    assert pooled.shape == (7, 1, 7, 7)
    assert torch.allclose(pooled.mean((1, 2, 3)), torch.tensor([1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0]))


def test_pooling_is_aligned():
    """On a ramp, the mean over an RoI is the ramp at the RoI's centre."""
    ramp = torch.arange(32.0).expand(1, 1, 32, 32).contiguous()
    pooled = build((8,), 1)([ramp], torch.tensor([[0.0, 40, 60, 120, 100]]))
    # Cell x covers the pixels 8x .. 8x + 8, its value is that of its middle.
    assert pooled.mean().item() == pytest.approx(80 / 8 - 0.5, abs=1e-4)


def test_no_roi():
    x = [torch.zeros(1, 4, 1024 // s, 1024 // s) for s in (8, 16, 32, 64, 128)]
    assert build(channels=4)(x, torch.zeros(0, 5)).shape == (0, 4, 7, 7)
