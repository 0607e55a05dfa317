"""Layers that several models share."""
from .deform_conv import ExactDeformConv
from .full_precision import full_precision
from .recompute import recompute

__all__ = ['ExactDeformConv', 'full_precision', 'recompute']
