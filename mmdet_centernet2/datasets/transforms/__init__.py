"""Transforms of the data pipelines."""

from .aerial import KeepBoxesByCenter, RandomQuarterTurns
from .efficientdet_resize_crop import EfficientDetResizeCrop
from .loading import CheckedLoadImageFromFile, ImageReadError
from .resize import Resize

__all__ = [
    'CheckedLoadImageFromFile',
    'EfficientDetResizeCrop',
    'ImageReadError',
    'KeepBoxesByCenter',
    'RandomQuarterTurns',
    'Resize',
]
