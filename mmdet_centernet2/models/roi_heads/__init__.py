"""Second stages."""

from .canonical_roi_extractor import CanonicalRoIExtractor
from .centernet2_bbox_head import CenterNet2BBoxHead
from .centernet2_roi_head import CenterNet2CascadeRoIHead, CenterNet2RoIHead

__all__ = [
    'CanonicalRoIExtractor',
    'CenterNet2BBoxHead',
    'CenterNet2CascadeRoIHead',
    'CenterNet2RoIHead',
]
