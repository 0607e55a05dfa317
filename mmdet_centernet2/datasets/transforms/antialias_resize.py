"""Pillow's antialiased pixels, several times as fast."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.datasets.transforms import Resize, ResizeShortestEdge
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class AntialiasResize(Resize):
    """mmdet's ``Resize`` with ``backend='pillow'``, computed by torch.

    Within one grey level of Pillow's. Grey images and ``keep_ratio=True`` are
    left to mmdet's.

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
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        resized = F.interpolate(pixels, (height, width), mode='bilinear', antialias=True)
        results['img'] = resized[0].permute(1, 2, 0).numpy()
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
