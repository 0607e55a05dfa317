"""Targets, decoding and score rules: pure functions, and the box coder."""
from .box_coder import OneSidedDeltaXYWHBBoxCoder
from .center_decoder import Candidates, decode, select
from .center_targets import (BatchBoxes, CenterTargets, SparseHeat,
                             center_targets)
from .level_layout import LevelLayout, flatten_levels
from .postprocess import finish_detections
from .score_fusion import fuse_scores, mean_probs

__all__ = [
    'BatchBoxes', 'Candidates', 'CenterTargets', 'LevelLayout',
    'OneSidedDeltaXYWHBBoxCoder', 'SparseHeat', 'center_targets', 'decode',
    'finish_detections', 'flatten_levels', 'fuse_scores', 'mean_probs',
    'select'
]
