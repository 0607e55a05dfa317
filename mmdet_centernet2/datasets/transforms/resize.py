"""Resizing to the sizes of the original, and to its pixels or nearly so."""

from __future__ import annotations

import copy

import cv2
import numpy as np
import torch
from mmdet.datasets.transforms import Resize as MMDetResize
from mmdet.datasets.transforms import ResizeShortestEdge
from mmdet.registry import TRANSFORMS as MMDET_TRANSFORMS

from ...registry import TRANSFORMS

ROUNDINGS = ('nearest', 'down')


def resize_antialiased(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pillow's bilinear pixels to one grey level.

    OpenCV enlarges, where nothing needs antialiasing, torch does the rest.

    Args:
        image: (h, w) or (h, w, C), uint8 or float32.
        height, width: Of the result.
    """
    if height >= image.shape[0] and width >= image.shape[1]:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    rows_scaled = _antialias(image, height, image.shape[1])  # the faster direction first
    return _antialias(rows_scaled, height, width)


def _antialias(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """torch's antialiased image, (height, width) or (height, width, C)."""
    scaled = np.empty((height, width, *image.shape[2:]), image.dtype)
    source, target = (
        torch.from_numpy(np.ascontiguousarray(pixels).reshape(1, *pixels.shape[:2], -1))
        for pixels in (image, scaled)
    )
    # F.interpolate would separate the channels
    torch.ops.aten._upsample_bilinear2d_aa.out(
        source.permute(0, 3, 1, 2), (height, width), False, out=target.permute(0, 3, 1, 2)
    )
    return scaled


@TRANSFORMS.register_module()
class Resize(MMDetResize):
    """mmdet's ``Resize``; with ``keep_ratio=True`` it rounds as the original.

    That is, to the size that mmdet's ``ResizeShortestEdge`` and detectron2
    give, also where a side is halfway between two pixels.

    Tools such as SAHI look for a ``Resize`` in the test pipeline. So it is
    registered under this name, in the scope of this package::

        dict(type='Resize', _scope_='mmdet_centernet2', scale=(1333, 800),
             keep_ratio=True, backend='pillow')

    Args:
        *args: See mmdet's ``Resize``.
        rounding: With ``keep_ratio=True``: 'nearest', or 'down', which cuts
            sides to whole pixels as :class:`EfficientDetResizeCrop` does.
        **kwargs: See mmdet's ``Resize``.

    Raises:
        ValueError: If ``rounding`` is unknown.
    """

    def __init__(self, *args, rounding: str = 'nearest', **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if rounding not in ROUNDINGS:
            raise ValueError(f'rounding must be one of {ROUNDINGS}, got {rounding!r}')
        self.rounding = rounding
        # for its size only; built in mmdet's scope, as `Resize` in ours is this class
        self._edge = ResizeShortestEdge(0, resize_type='mmdet.Resize')

    def transform(self, results: dict) -> dict:
        """Resize the image and its annotations."""
        if not (self.keep_ratio and self.scale):
            return super().transform(results)
        plain = copy.copy(self)
        plain.scale = self._size(results['img'])
        plain.keep_ratio = False
        return MMDetResize.transform(plain, results)

    def _size(self, image: np.ndarray) -> tuple[int, int]:
        """Width and height after resizing; no side gets lost altogether."""
        short, longest = min(self.scale), max(self.scale)
        if self.rounding == 'down':
            height, width = image.shape[:2]
            factor = min(longest / max(height, width), short / min(height, width))
            width, height = int(width * factor), int(height * factor)
        else:
            self._edge.max_size = longest
            width, height = self._edge._get_output_shape(image, (short,))
        return max(width, 1), max(height, 1)


@MMDET_TRANSFORMS.register_module()
class AntialiasResize(MMDetResize):
    """mmdet's ``Resize`` to Pillow's pixels by :func:`resize_antialiased`.

    Only for ``keep_ratio=False``.

    Args:
        *args, **kwargs: See mmdet's ``Resize``.
    """

    def _resize_img(self, results: dict) -> None:
        image = results.get('img')
        if image is None or self.keep_ratio:
            return super()._resize_img(results)
        width, height = results['scale']
        results['img'] = resize_antialiased(image, height, width)
        results['img_shape'] = (height, width)
        results['scale_factor'] = (width / image.shape[1], height / image.shape[0])
        results['keep_ratio'] = False


@MMDET_TRANSFORMS.register_module()
class AntialiasShortestEdge(ResizeShortestEdge):
    """mmdet's ``ResizeShortestEdge`` by means of :class:`AntialiasResize`.

    As the ``resize_type`` of mmdet's ``RandomChoiceResize``, for training.

    Args:
        *args, **kwargs: See mmdet's ``ResizeShortestEdge``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, resize_type='AntialiasResize', **kwargs)
