"""Packing an image and its annotations for the model."""

import cv2
import numpy as np
from mmdet.datasets.transforms import PackDetInputs as MMDetPackDetInputs

from ...registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackDetInputs(MMDetPackDetInputs):
    """mmdet's ``PackDetInputs``; OpenCV separates the channels, several times as fast.

    It is registered under this name, which tools look for, in the scope of this
    package::

        dict(type='PackDetInputs', _scope_='mmdet_centernet2')

    Args:
        *args, **kwargs: See mmdet's ``PackDetInputs``.
    """

    def transform(self, results: dict) -> dict:
        """Give ``inputs`` of shape (C, h, w) and ``data_samples``."""
        if 'img' in results and results['img'].ndim == 3:
            results['img'] = _planar(results['img'])
        return super().transform(results)


def _planar(image: np.ndarray) -> np.ndarray:
    """The same (h, w, C) image with each channel in one piece, which mmdet need not copy."""
    if image.strides[1] < 0:  # RandomFlip's view
        image = cv2.flip(image[:, ::-1], 1).reshape(image.shape)
    planes = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
    cv2.split(image, list(planes))
    return planes.transpose(1, 2, 0)
