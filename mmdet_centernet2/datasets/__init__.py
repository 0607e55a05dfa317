"""Data sets and their transforms."""

from .annotation_file import AnnotationError, CheckedCOCO, read_annotations
from .centernet2_coco import CenterNet2CocoDataset, StrictCocoMixin
from .centernet2_lvis import CenterNet2LVISDataset
from .image_counts import count_images
from .nuimages import NuImagesDataset
from .objects365 import CenterNet2Objects365Dataset
from .samplers import *  # noqa: F401,F403
from .transforms import *  # noqa: F401,F403

__all__ = [
    'AnnotationError',
    'CenterNet2CocoDataset',
    'CenterNet2LVISDataset',
    'CenterNet2Objects365Dataset',
    'CheckedCOCO',
    'NuImagesDataset',
    'StrictCocoMixin',
    'count_images',
    'read_annotations',
]
