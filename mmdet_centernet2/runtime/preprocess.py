"""From pixels to the network's input, as in mmdet's test pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from .errors import ImageError
from .model_info import INTERPOLATIONS, ModelInfo, ResizeInfo

_LONGEST_SIDE = 2**15  # of a resized image: more would fill the memory


class Prepared(NamedTuple):
    """An image as the network wants it, and where it came from.

    Attributes:
        pixels: (3, h, w), float32, normalised, not padded.
        original_size: (height, width) of the image in pixels.
    """

    pixels: np.ndarray
    original_size: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the network's input."""
        return self.pixels.shape[1:]

    @property
    def scale_factor(self) -> tuple[float, float]:
        """Resized width and height by the original ones."""
        return (self.size[1] / self.original_size[1], self.size[0] / self.original_size[0])


def resized_size(
    size: tuple[int, int], resize: ResizeInfo, limit: tuple[int, int] | None = None
) -> tuple[int, int]:
    """The size of an image after resizing, rounded as mmdet and mmcv do.

    All sizes are (width, height) in pixels. ``limit`` is what a model of
    fixed shape takes; a larger image shrinks to fit.
    """
    if resize.short_side:
        resized = _short_side(size, *resize.scale)
    elif resize.keep_ratio:
        resized = _within(size, resize.scale, resize.round_down)
    else:
        resized = tuple(resize.scale)
    if limit is None or (resized[0] <= limit[0] and resized[1] <= limit[1]):
        return resized
    shrink = min(limit[0] / resized[0], limit[1] / resized[1])
    return tuple(max(1, int(length * shrink + 1e-6)) for length in resized)


def _short_side(size: tuple[int, int], short: int, longest: int) -> tuple[int, int]:
    """mmdet's ``ResizeShortestEdge``, its order of operations included."""
    scale = short / min(size)
    lengths = [scale * length for length in size]
    # exact, where the product may miss it by the last bit
    lengths[0 if size[0] <= size[1] else 1] = float(short)
    if longest and max(lengths) > longest:
        scale = longest / max(lengths)
        lengths = [length * scale for length in lengths]
    return tuple(max(int(length + 0.5), 1) for length in lengths)


def _within(size: tuple[int, int], scale: tuple[int, int], round_down: bool) -> tuple[int, int]:
    """mmcv's ``rescale_size``: as large as both edges allow."""
    factor = min(max(scale) / max(size), min(scale) / min(size))
    half = 0 if round_down else 0.5
    return tuple(max(int(length * factor + half), 1) for length in size)


def prepare(image: np.ndarray, info: ModelInfo, limit: tuple[int, int] | None = None) -> Prepared:
    """Resize and normalise an image (h, w, 3), uint8, BGR; ``limit`` as in ``resized_size``.

    Raises:
        ImageError: If the resized image would be longer than 32768 pixels.
    """
    height, width = image.shape[:2]
    size = resized_size((width, height), info.resize, limit)
    if max(size) > _LONGEST_SIDE:
        raise ImageError(
            f'an image of {width}x{height} pixels would be resized to {size[0]}x{size[1]}; '
            f'no side may be longer than {_LONGEST_SIDE}. Cut it into parts.'
        )
    method = INTERPOLATIONS[info.resize.backend][info.resize.interpolation]
    if info.resize.backend == 'pillow':
        resized = np.asarray(Image.fromarray(image).resize(size, method))
    else:
        resized = cv2.resize(image, size, interpolation=method)
    return Prepared(_normalise(resized, info), (height, width))


def _normalise(image: np.ndarray, info: ModelInfo) -> np.ndarray:
    """To float32 planes; each operation rounds as torch's does."""
    planes = image.transpose(2, 0, 1)
    if info.bgr_to_rgb:
        planes = planes[::-1]
    planes = np.ascontiguousarray(planes, dtype=np.float32)
    if info.mean is not None:
        planes -= np.asarray(info.mean, np.float32)[:, None, None]
        planes /= np.asarray(info.std, np.float32)[:, None, None]
    return planes


def to_batch(
    images: Sequence[Prepared], info: ModelInfo, fixed: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pad images at the bottom and on the right, and stack them.

    The shape is ``fixed``, (width, height), or else that of the largest image,
    rounded up to ``info.pad_divisor``.

    Returns:
        Images (B, 3, H, W) and their sizes without the padding (B, 2) as
        (height, width), float32.
    """
    sizes = np.array([image.size for image in images])
    if fixed is None:
        divisor = info.pad_divisor
        height, width = -(-sizes.max(0) // divisor) * divisor
    else:
        width, height = fixed
    batch = np.full((len(images), 3, height, width), info.pad_value, np.float32)
    for place, image in zip(batch, images):
        place[:, : image.size[0], : image.size[1]] = image.pixels
    return batch, sizes.astype(np.float32)
