"""Backbones that mmdet does not have."""

from .caffe_res2net import CaffeRes2Net
from .dla import DLA

__all__ = ['CaffeRes2Net', 'DLA']
