"""Data sets and their transforms."""

from .annotation_file import AnnotationError, AnnotationTable, read_annotations, read_table
from .centernet2_coco import (
    CenterNet2CocoDataset,
    CenterNet2Objects365Dataset,
    NuImagesDataset,
    StrictCocoMixin,
)
from .centernet2_lvis import CenterNet2LVISDataset
from .samplers import *  # noqa: F401,F403
from .transforms import *  # noqa: F401,F403

__all__ = [
    'AnnotationError',
    'AnnotationTable',
    'CenterNet2CocoDataset',
    'CenterNet2LVISDataset',
    'CenterNet2Objects365Dataset',
    'NuImagesDataset',
    'StrictCocoMixin',
    'read_annotations',
    'read_table',
]
