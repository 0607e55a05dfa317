"""Targets and decoding of the CenterNet heads, as pure functions."""

from .center_decoder import Candidates, decode, rescale_and_clip, select
from .center_targets import (
    BatchBoxes,
    CenterTargets,
    LevelLayout,
    SparseHeat,
    center_targets,
    flatten_levels,
    mine_positives,
)

__all__ = [
    'BatchBoxes',
    'Candidates',
    'CenterTargets',
    'LevelLayout',
    'SparseHeat',
    'center_targets',
    'decode',
    'flatten_levels',
    'mine_positives',
    'rescale_and_clip',
    'select',
]
