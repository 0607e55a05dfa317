"""Layers that several models share."""

from .deform_conv import ExactDeformConv
from .disable import disable_autocast, disable_compile
from .recompute import recompute

__all__ = ['ExactDeformConv', 'disable_autocast', 'disable_compile', 'recompute']
