"""Transforms of the data pipelines."""

from .aerial import KeepBoxesByCenter, RandomQuarterTurns
from .efficientdet_resize_crop import EfficientDetResizeCrop
from .loading import CheckedLoadImageFromFile, ImageReadError
from .packing import PackDetInputs
from .resize import AntialiasResize, AntialiasShortestEdge, Resize

__all__ = [
    'AntialiasResize',
    'AntialiasShortestEdge',
    'CheckedLoadImageFromFile',
    'EfficientDetResizeCrop',
    'ImageReadError',
    'KeepBoxesByCenter',
    'PackDetInputs',
    'RandomQuarterTurns',
    'Resize',
]
