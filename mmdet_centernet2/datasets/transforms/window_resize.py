"""Resizing only the window of an image that a crop leaves, in pillow's pixels.

Both functions give what resizing the whole image and cutting out the window
gives, and look only at the pixels which that depends on.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image


class Span(NamedTuple):
    """One axis of a window: what is read, and what is made of it."""

    source: slice  # pixels of the image that are read
    box: tuple[float, float]  # start and end of the part that is resized
    length: int  # pixels that it is resized to
    surplus: int  # how many of them come before the window
    taps: float  # pixels of the image that make one


def resize_window(
    image: np.ndarray | Image.Image,
    scaled_size: tuple[int, int],
    offset: tuple[int, int],
    crop_size: tuple[int, int],
) -> Image.Image:
    """Window of an image resized with pillow's (antialiased) bilinear filter.

    Within one grey level of ``resize(whole image)[window]``. pillow rounds to
    whole grey levels after each axis, and takes the borders of the part to
    resize in single precision, which may tip a value to the next level. In
    both axes it would add up to two levels, so one of them is widened to
    borders without a rounding error, and is exact to the bit.

    Args:
        image: uint8 of shape (h, w) or (h, w, 3), or pillow's own.
        scaled_size: Height and width of the whole image when it is resized,
            in pixels.
        offset: Top and left of the window in that image.
        crop_size: Height and width of the window.
    """
    size = image.size[::-1] if isinstance(image, Image.Image) else image.shape
    rows, columns = min(
        (
            tuple(map(_span, size, scaled_size, offset, crop_size, exact))
            for exact in ((True, False), (False, True))
        ),
        key=_cost,
    )
    top, left = 0, 0
    if not isinstance(image, Image.Image):
        top, left = rows.source.start, columns.source.start
        image = Image.fromarray(image[rows.source, columns.source])
    (y1, y2), (x1, x2) = rows.box, columns.box
    resized = image.resize(
        (columns.length, rows.length),
        Image.Resampling.BILINEAR,
        box=(x1 - left, y1 - top, x2 - left, y2 - top),
    )
    if resized.size == crop_size[::-1]:
        return resized
    top, left = rows.surplus, columns.surplus
    return resized.crop((left, top, left + crop_size[1], top + crop_size[0]))


def nearest_window(
    masks: np.ndarray,
    scaled_size: tuple[int, int],
    offset: tuple[int, int],
    crop_size: tuple[int, int],
) -> np.ndarray:
    """Window of masks (..., h, w) without interpolation; pillow's to the bit.

    See :func:`resize_window` for the other arguments.
    """
    rows, columns = (
        _nearest(*axis) for axis in zip(masks.shape[-2:], scaled_size, offset, crop_size)
    )
    return masks[..., rows[:, None], columns]


def _nearest(length: int, scaled: int, start: int, count: int) -> np.ndarray:
    """Which pixel pillow takes for each of the window, shape (count,)."""
    pixels = Image.fromarray(np.arange(length, dtype=np.int32)[None])
    taken = np.asarray(pixels.resize((scaled, 1), Image.Resampling.NEAREST))
    return taken[0, start : start + count]


def _span(length: int, scaled: int, start: int, count: int, exact: bool) -> Span:
    """What the pixels from ``start`` of ``scaled`` ones are made of."""
    first, last = start, start + count
    if exact:
        first, last = _widen(length, scaled, first, last)
    support = max(length / scaled, 1.0)  # of the filter, to either side
    begin = max(math.floor(first * length / scaled - support) - 1, 0)
    end = min(math.ceil(last * length / scaled + support) + 1, length)
    box = (first * length / scaled, last * length / scaled)
    return Span(slice(begin, end), box, last - first, start - first, 2 * support)


def _widen(length: int, scaled: int, first: int, last: int) -> tuple[int, int]:
    """Next borders whose place in the image is a whole number of 2^-k pixels.

    Such numbers fit single precision; others, thirds for example, do not.
    """
    step = scaled // math.gcd(length, scaled)
    step //= step & -step  # its odd part
    first, last = first // step * step, -(-last // step) * step
    places = [n * length / scaled for n in (first, last, last - first)]
    if any(float(np.float32(place)) != place for place in places):
        return 0, scaled
    return first, last


def _cost(spans: tuple[Span, ...]) -> float:
    """Multiplications for each channel: along the rows first, then down."""
    rows, columns = spans
    num_rows = rows.source.stop - rows.source.start
    return columns.length * (columns.taps * num_rows + rows.taps * rows.length)
