"""Targets and decoding of the CenterNet heads, as pure functions."""

from .batch_sampling import sample_batch
from .center_decoder import Candidates, decode, rescale_and_clip, select
from .center_targets import (
    BatchBoxes,
    CenterTargets,
    LevelLayout,
    center_targets,
    flatten_levels,
    mine_positives,
)
from .to_device import to_device

__all__ = [
    'BatchBoxes',
    'Candidates',
    'CenterTargets',
    'LevelLayout',
    'center_targets',
    'decode',
    'flatten_levels',
    'mine_positives',
    'rescale_and_clip',
    'sample_batch',
    'select',
    'to_device',
]
