"""Data sets and their transforms."""
from .centernet2_coco import (AnnotationError, CenterNet2CocoDataset,
                              StrictCocoMixin)
from .transforms import *  # noqa: F401,F403

__all__ = ['AnnotationError', 'CenterNet2CocoDataset', 'StrictCocoMixin']
