"""Targets and decoding of the CenterNet heads, as pure functions."""

from .batch_sampling import can_sample_batch, sample_batch
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
    'can_sample_batch',
    'sample_batch',
    'BatchBoxes',
    'Candidates',
    'CenterTargets',
    'LevelLayout',
    'center_targets',
    'decode',
    'flatten_levels',
    'mine_positives',
    'rescale_and_clip',
    'select',
    'to_device',
]
