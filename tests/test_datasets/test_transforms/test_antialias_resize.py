"""OpenCV's enlarging and torch's antialiased shrinking against Pillow's."""

import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from PIL import Image

from mmdet_centernet2.datasets.transforms.resize import resize_antialiased

SCALES = dict(scales=[40, 64, 97, 200], max_size=300)


def pipeline(kind: str, **options):
    return TRANSFORMS.build(dict(type='RandomChoiceResize', resize_type=kind, **SCALES, **options))


def resized(transform, image: np.ndarray, seed: int) -> dict:
    np.random.seed(seed)
    return transform(dict(img=image))


@pytest.mark.parametrize('size', [(64, 97), (97, 64), (333, 500), (31, 30), (1, 200), (640, 480)])
def test_pillow_to_one_grey_level(size):
    """Larger and smaller, noise and flat areas."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image[: size[0] // 2, :, 1:] = 255
    for seed in range(8):
        found = resized(pipeline('AntialiasShortestEdge'), image, seed)
        wanted = resized(pipeline('ResizeShortestEdge', backend='pillow'), image, seed)
        assert found.keys() == wanted.keys()
        for key in ('scale', 'scale_factor', 'img_shape', 'keep_ratio'):
            assert found[key] == wanted[key]
        assert found['img'].dtype == np.uint8
        assert found['img'].shape == wanted['img'].shape
        difference = found['img'].astype(int) - wanted['img']
        assert np.abs(difference).max() <= 1  # Pillow rounds after each axis
        assert np.abs(difference).mean() < 0.35


@pytest.mark.parametrize('size', [(7, 200), (200, 7), (80, 200), (240, 180), (399, 301), (1, 1)])
def test_any_ratio(size):
    """Of a photograph's size, also smaller in one direction and larger in the other."""
    image = np.random.default_rng(1).integers(0, 256, (160, 230, 3), dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(image).resize(size[::-1], Image.BILINEAR)).astype(int)
    assert np.abs(resize_antialiased(image, *size) - wanted).max() <= 1
    window = image[:, 20:-9]  # of which rows are not in one piece
    wanted = resize_antialiased(np.ascontiguousarray(window), *size)
    np.testing.assert_array_equal(resize_antialiased(window, *size), wanted)


@pytest.mark.parametrize('size', [(12, 18), (60, 90)])
def test_grey_and_float_images(size):
    image = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(image).resize(size[::-1], Image.BILINEAR)).astype(int)
    for pixels in (image, image.astype(np.float32)):
        found = resize_antialiased(pixels, *size)
        assert found.shape == size and found.dtype == pixels.dtype
        assert np.abs(found - wanted).max() <= 1
