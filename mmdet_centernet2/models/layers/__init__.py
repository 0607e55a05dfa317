"""Layers that several models share."""
from .deform_conv import ExactDeformConv
from .recompute import recompute

__all__ = ['ExactDeformConv', 'recompute']
