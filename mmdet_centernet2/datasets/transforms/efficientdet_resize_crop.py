"""Resizing to a random size and cropping a window, as EfficientDet does."""

from __future__ import annotations

from typing import NamedTuple

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import autocast_box_type
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from .resize import resize_antialiased

BACKENDS = ('antialias', 'pillow', 'cv2')


class ResizeCrop(NamedTuple):
    """Which part of an image is kept, and how large it becomes.

    Sizes are (height, width) and offsets (top, left), in pixels.
    """

    img_scale: float  # before the scaled size is cut to whole pixels
    scaled_size: tuple[int, int]  # of the whole image
    offset: tuple[int, int]  # of the window in the scaled image
    crop_size: tuple[int, int]  # of the window


def plan_resize_crop(
    img_size: tuple[int, int], size: int, factor: float, position: tuple[float, float]
) -> ResizeCrop:
    """Where a draw of the random numbers leads; truncates as the original.

    A side that would be cut to no pixel, where the original fails, becomes
    one pixel.

    Args:
        img_size: Height and width of the image in pixels.
        size: Longest side of the window in pixels.
        factor: The scaled image fits a square of ``factor * size``.
        position: Of the window along the height and the width, from 0 (top,
            left) to 1 (bottom, right).
    """
    side = factor * size
    img_scale = min(side / length for length in img_size)
    height, width = (max(int(n * img_scale), 1) for n in img_size)
    top, left = (
        int(max(0.0, float(n - size)) * where) for n, where in zip((height, width), position)
    )
    return ResizeCrop(
        img_scale,
        (height, width),
        (top, left),
        (min(height, top + size) - top, min(width, left + size) - left),
    )


@TRANSFORMS.register_module()
class EfficientDetResizeCrop(BaseTransform):
    """Resize to a random size, then crop a window of at most ``size``.

    The image is scaled, keeping its aspect ratio, to fit a square whose side
    is ``size`` times a random factor; of what is larger than ``size`` a
    random window is kept. Nothing is padded. Boxes are scaled by the exact
    factor (not by the ratio of the whole-pixel sizes), moved and clipped to
    the window; ``FilterAnnotations`` after it drops what is left outside.
    Bitmap masks are resized without interpolation; polygons are not clipped.

    With ``scale_range=(1, 1)`` it is the original's 'square' test resizing:
    the long edge becomes ``size`` and nothing is cropped.

    Args:
        size: Longest side of the window in pixels.
        scale_range: Smallest and largest factor.
        backend: 'pillow', which gives the original's pixels, 'antialias',
            which is within one grey level and faster, or 'cv2'. Masks are
            pillow's with both of the former.

    Raises:
        ValueError: If an argument is out of its range.

    Source: the original's ``custom_augmentation_impl.py``.
    """

    def __init__(
        self, size: int, scale_range: tuple[float, float] = (0.1, 2.0), backend: str = 'pillow'
    ) -> None:
        if not isinstance(size, int) or size < 1:
            raise ValueError(f'size must be a positive integer, got {size!r}')
        if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1]:
            raise ValueError(
                f'scale_range must be two factors, 0 < smallest <= largest, got {scale_range!r}'
            )
        if backend not in BACKENDS:
            raise ValueError(f'backend must be one of {BACKENDS}, got {backend!r}')
        self.size = size
        self.scale_range = tuple(scale_range)
        self.backend = backend

    @cache_randomness
    def _random_draws(self) -> tuple[float, float, float]:
        """Factor, then vertical, then horizontal position: always three."""
        low, high = self.scale_range
        return (np.random.uniform(low, high), np.random.uniform(0, 1), np.random.uniform(0, 1))

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        """Resize and crop ``img``, ``gt_bboxes``, ``gt_masks``, ..."""
        factor, y, x = self._random_draws()
        height, width = results['img'].shape[:2]
        plan = plan_resize_crop((height, width), self.size, factor, (y, x))
        results['img'] = self._resize(results['img'], plan)
        results['img_shape'] = plan.crop_size
        results['scale_factor'] = (plan.scaled_size[1] / width, plan.scaled_size[0] / height)
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'].rescale_((plan.img_scale, plan.img_scale))
            results['gt_bboxes'].translate_((-plan.offset[1], -plan.offset[0]))
            results['gt_bboxes'].clip_(plan.crop_size)
        if results.get('gt_masks') is not None:
            results['gt_masks'] = self._move_masks(results['gt_masks'], plan)
        return results

    def _resize(
        self, pixels: np.ndarray, plan: ResizeCrop, interpolation: str = 'bilinear'
    ) -> np.ndarray:
        """The window of the scaled image or mask, of shape ``crop_size``."""
        height, width = plan.scaled_size
        if self.backend == 'antialias' and interpolation == 'bilinear':
            scaled = resize_antialiased(pixels, height, width)
        else:
            backend = 'cv2' if self.backend == 'cv2' else 'pillow'
            scaled = mmcv.imresize(pixels, (width, height), False, interpolation, backend=backend)
        (top, left), (rows, columns) = plan.offset, plan.crop_size
        return np.ascontiguousarray(scaled[top : top + rows, left : left + columns])

    def _move_masks(
        self, masks: BitmapMasks | PolygonMasks, plan: ResizeCrop
    ) -> BitmapMasks | PolygonMasks:
        if isinstance(masks, PolygonMasks):  # scaled and moved, not clipped
            scale, corner = plan.img_scale, plan.offset[::-1]
            polygons = [
                [(np.reshape(polygon, (-1, 2)) * scale - corner).ravel() for polygon in parts]
                for parts in masks.masks
            ]
            return PolygonMasks(polygons, *plan.crop_size)
        moved = [  # they may be boolean, which pillow would not resize
            self._resize(np.asarray(mask, np.uint8), plan, 'nearest') for mask in masks.masks
        ]
        return BitmapMasks(moved, *plan.crop_size)
