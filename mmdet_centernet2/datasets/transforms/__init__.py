"""Transforms of the data pipelines."""

from .aerial import KeepBoxesByCenter, RandomQuarterTurns
from .antialias_resize import AntialiasResize, AntialiasShortestEdge
from .efficientdet_resize_crop import EfficientDetResizeCrop
from .loading import CheckedLoadImageFromFile, ImageReadError
from .resize import Resize

__all__ = [
    'AntialiasResize',
    'AntialiasShortestEdge',
    'CheckedLoadImageFromFile',
    'EfficientDetResizeCrop',
    'ImageReadError',
    'KeepBoxesByCenter',
    'RandomQuarterTurns',
    'Resize',
]
