"""Pillow's antialiased pixels, several times as fast."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmdet.datasets.transforms import Resize, ResizeShortestEdge
from mmdet.registry import TRANSFORMS


def resize_antialiased(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pillow's bilinear pixels to one grey level.

    OpenCV enlarges, where nothing needs antialiasing, torch does the rest.

    Args:
        image: (h, w) or (h, w, C), uint8 or float32.
        height, width: Of the result.
    """
    if height >= image.shape[0] and width >= image.shape[1]:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    planes = torch.from_numpy(np.ascontiguousarray(image))
    planes = planes.view(*image.shape[:2], -1).permute(2, 0, 1)[None]
    planes = F.interpolate(planes, (height, width), mode='bilinear', antialias=True)
    return planes[0].permute(1, 2, 0).reshape(height, width, *image.shape[2:]).numpy()


@TRANSFORMS.register_module()
class AntialiasResize(Resize):
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


@TRANSFORMS.register_module()
class AntialiasShortestEdge(ResizeShortestEdge):
    """mmdet's ``ResizeShortestEdge`` by means of :class:`AntialiasResize`.

    As the ``resize_type`` of mmdet's ``RandomChoiceResize``, for training.

    Args:
        *args, **kwargs: See mmdet's ``ResizeShortestEdge``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, resize_type='AntialiasResize', **kwargs)
