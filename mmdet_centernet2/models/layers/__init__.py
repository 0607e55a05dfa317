"""Layers that several models share."""

from .deform_conv import ExactDeformConv
from .disable_autocast import disable_autocast
from .disable_compile import disable_compile
from .recompute import recompute

__all__ = ['ExactDeformConv', 'disable_autocast', 'disable_compile', 'recompute']
