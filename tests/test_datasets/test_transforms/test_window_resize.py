"""Cropping first gives what resizing everything and then cropping gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from mmengine.dataset import Compose
from PIL import Image

from mmdet_centernet2.datasets.transforms.efficientdet_resize_crop import plan_resize_crop
from mmdet_centernet2.datasets.transforms.loading import PillowImage
from mmdet_centernet2.datasets.transforms.window_resize import nearest_window, resize_window


def noise(height, width, seed=0):
    """Black and white: nothing differs more from pixel to pixel."""
    random = np.random.RandomState(seed)
    return (random.randint(0, 2, (height, width, 3)) * 255).astype(np.uint8)


def ramp(height, width, down, right):
    """Many values that lie halfway between two grey levels once resized."""
    rows, columns = np.arange(height)[:, None], np.arange(width)
    grey = (rows * down + columns * right) % 256
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def plain(image, plan, interpolation):
    height, width = plan.scaled_size
    whole = Image.fromarray(image).resize((width, height), interpolation)
    return np.asarray(whole)[plan.window]


def largest_difference(image, plan):
    expected = plain(image, plan, Image.BILINEAR).astype(int)
    found = [
        np.asarray(resize_window(source, *plan[1:])).astype(int)
        for source in (image, Image.fromarray(image))
    ]
    assert all(f.shape == expected.shape for f in found)
    return max(abs(f - expected).max() for f in found)


sides = st.integers(2, 300)
shares = st.floats(0, 1, exclude_max=True)


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(sides, sides),
    window=st.integers(20, 200),
    factor=st.one_of(st.floats(0.1, 2), st.sampled_from([1, 1.2, 1.25, 1.5, 1.6, 1.75, 2])),
    position=st.tuples(shares, shares),
    slopes=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_within_one_grey_level(size, window, factor, position, slopes):
    plan = plan_resize_crop(size, window, factor, position)
    image = ramp(*size, *slopes) if any(slopes) else noise(*size)
    assert largest_difference(image, plan) <= 1
    np.testing.assert_array_equal(
        nearest_window(image[..., 0], *plan[1:]), plain(image[..., 0], plan, Image.NEAREST)
    )


def test_pillow_s_own_box_would_be_two_levels_off():
    """Why one axis is widened; thirds of pixels have no exact binary form."""
    image = np.tile(noise(30, 40), (16, 16, 1))  # 480 x 640
    plan = plan_resize_crop(image.shape[:2], 640, 1.5, (0.5, 0.5))
    assert plan.scaled_size == (720, 960)
    (top, left), (height, width) = plan.offset, plan.crop_size
    box = [n * 2 / 3 for n in (left, top, left + width, top + height)]
    image = np.random.RandomState(0).randint(0, 256, image.shape, np.uint8)
    naive = Image.fromarray(image).resize((width, height), Image.BILINEAR, box)
    expected = plain(image, plan, Image.BILINEAR).astype(int)
    assert abs(np.asarray(naive).astype(int) - expected).max() == 2
    assert largest_difference(image, plan) <= 1


@pytest.mark.parametrize('size', [(1500, 2000), (1999, 1333), (480, 640)])
def test_photograph_sizes(size):
    for seed, factor in enumerate((0.3, 1.1, 1.5, 1.9)):
        position = np.random.RandomState(seed).rand(2)
        plan = plan_resize_crop(size, 640, factor, position)
        assert largest_difference(noise(*size, seed), plan) <= 1


def test_only_the_part_that_survives_is_looked_at():
    image = ramp(600, 600, 3, 5)
    plan = plan_resize_crop(image.shape[:2], 100, 2, (0.1, 0.9))
    assert (plan.offset, plan.scaled_size) == ((10, 90), (200, 200))
    spoilt = image.copy()
    spoilt[340:] = 0  # the window ends at row 330
    spoilt[:, :260] = 0  # and starts at column 270
    np.testing.assert_array_equal(resize_window(spoilt, *plan[1:]), resize_window(image, *plan[1:]))


def test_masks_of_any_type_and_number():
    masks = np.random.RandomState(0).rand(3, 50, 70) > 0.5
    plan = plan_resize_crop((50, 70), 40, 1.7, (0.3, 0.6))
    found = nearest_window(masks, *plan[1:])
    assert found.dtype == bool
    for mask, got in zip(masks.astype(np.uint8), found):
        np.testing.assert_array_equal(got, plain(mask, plan, Image.NEAREST))


LOAD = dict(type='LoadImageFromFile', _scope_='mmdet_centernet2', imdecode_backend='pillow')


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / 'photograph.jpg'
    Image.fromarray(ramp(150, 200, 1, 2)).resize((400, 300)).save(path)
    return str(path)


def run(path, lazy, crop_first, backend='pillow'):
    np.random.seed(3)
    return Compose(
        [
            dict(LOAD, lazy=lazy),
            dict(
                type='EfficientDetResizeCrop',
                size=200,
                scale_range=(1.6, 1.6),
                crop_first=crop_first,
                backend=backend,
            ),
        ]
    )(dict(img_path=path))


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
@pytest.mark.parametrize('crop_first', [True, False])
def test_lazy_pixels_are_the_same(photograph, crop_first, backend):
    eager = run(photograph, False, crop_first, backend)
    lazy = run(photograph, True, crop_first, backend)
    np.testing.assert_array_equal(lazy.pop('img'), eager.pop('img'))
    assert lazy == eager


def test_lazy_image_looks_like_mmcv_s(photograph):
    load = TRANSFORMS.build(dict(LOAD, lazy=True))
    lazy = load(dict(img_path=photograph))
    theirs = LoadImageFromFile(imdecode_backend='pillow')(dict(img_path=photograph))
    assert isinstance(lazy['img'], PillowImage)
    assert lazy['img_shape'] == lazy['ori_shape'] == (300, 400)
    assert lazy['img'].shape == theirs['img'].shape
    np.testing.assert_array_equal(lazy['img'], theirs['img'])
    with pytest.raises(AttributeError, match='Take lazy=True out'):
        lazy['img'].transpose(2, 0, 1)


@pytest.mark.parametrize(
    'kwargs', [dict(imdecode_backend='cv2'), dict(to_float32=True), dict(color_type='grayscale')]
)
def test_lazy_needs_pillow_and_bytes(kwargs):
    with pytest.raises(ValueError, match='lazy=True needs'):
        TRANSFORMS.build(dict(LOAD, lazy=True, **kwargs))
