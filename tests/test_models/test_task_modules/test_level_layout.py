"""The flat order of locations."""
import pytest
import torch
from hypothesis import given

from mmdet_centernet2.models.task_modules.level_layout import (LevelLayout,
                                                               cell_centers,
                                                               featmap_sizes,
                                                               flatten_levels)
from tests.reference import adapters
from tests.reference.cases import SETTINGS, level_sets
from tests.reference.layout import Level, flat_index, location

LEVELS = (Level(8, 11, 7, 0, 24), Level(16, 6, 4, 20, 1e7))


def build(levels, batch: int) -> LevelLayout:
    return LevelLayout.build(
        adapters.map_sizes(levels), adapters.strides(levels), batch,
        torch.device('cpu'))


@SETTINGS
@given(level_sets())
def test_rows_and_flattened_maps_are_in_the_reference_order(levels):
    batch = 2
    layout = build(levels, batch)
    maps = [
        torch.full((batch, 3, level.height, level.width), -1.)
        for level in levels
    ]
    for i, level in enumerate(levels):
        for image in range(batch):
            for y in range(level.height):
                for x in range(level.width):
                    index = flat_index(levels, batch, i, image, x, y)
                    maps[i][image, :, y, x] = torch.tensor(
                        [index, index + .25, index + .5])
                    row = layout.rows(
                        *[torch.tensor(v) for v in (i, image, y, x)])
                    assert row.item() == index
    flat = flatten_levels(maps)
    rows = torch.arange(layout.num_rows)
    assert torch.equal(flat, torch.stack([rows, rows + .25, rows + .5], 1))
    assert featmap_sizes(maps) == adapters.map_sizes(levels)
    for label in range(3):
        places = layout.elements(rows, torch.full_like(rows, label), 3)
        joined = torch.cat([level.flatten() for level in maps])
        assert torch.equal(joined[places], flat[:, label])


@SETTINGS
@given(level_sets())
def test_cell_centers_are_the_reference_locations(levels):
    for level in levels:
        points = cell_centers((level.height, level.width), level.stride,
                              torch.float32, torch.device('cpu'))
        assert [tuple(p) for p in points.tolist()] == [
            location(level, x, y) for y in range(level.height)
            for x in range(level.width)
        ]


def test_stride_for_each_level_is_asked_for():
    with pytest.raises(ValueError, match='2 feature maps but 3 strides'):
        LevelLayout.build([(4, 4), (2, 2)], [8, 16, 32], 1,
                          torch.device('cpu'))


def test_no_row_is_no_element():
    layout = LevelLayout.build([(4, 4), (2, 2)], [8, 16], 2,
                               torch.device('cpu'))
    rows = torch.tensor([-1, 0, 39])
    labels = torch.tensor([2, 0, 2])
    assert layout.elements(rows, labels, 1).tolist() == [-1, 0, 39]
    assert layout.elements(rows, labels, 3).tolist() == [-1, 0, 119]


def test_layout_of_the_next_batch_is_the_same_one():
    """Also if the first was one of inference."""
    with torch.inference_mode():
        first = build(LEVELS, 3)
    assert build(LEVELS, 3) is first
    assert build(LEVELS, 4) is not first
    assert not any(part.is_inference() for part in first[:4])
