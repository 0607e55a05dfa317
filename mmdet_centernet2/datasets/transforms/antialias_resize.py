"""Pillow's antialiased pixels, several times as fast."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmdet.datasets.transforms import Resize, ResizeShortestEdge
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class AntialiasResize(Resize):
    """mmdet's ``Resize`` with ``backend='pillow'``, computed by OpenCV and torch.

    Within one grey level of Pillow's. OpenCV enlarges, where nothing needs
    antialiasing. Grey images and ``keep_ratio=True`` are left to mmdet's.

    Args:
        *args, **kwargs: See mmdet's ``Resize``.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, backend='pillow', **kwargs)

    def _resize_img(self, results: dict) -> None:
        image = results.get('img')
        if image is None or self.keep_ratio or image.ndim != 3:
            return super()._resize_img(results)
        width, height = results['scale']
        if height >= image.shape[0] and width >= image.shape[1]:
            resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        else:
            pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
            pixels = F.interpolate(pixels, (height, width), mode='bilinear', antialias=True)
            resized = pixels[0].permute(1, 2, 0).numpy()
        results['img'] = resized
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
