"""Checkpoints: reading them safely, converting them both ways."""

from .backbones import convert_backbone
from .convert import (Conversion, Fit, Reversion, check_against,
                      convert_state_dict, revert_state_dict)
from .errors import CheckpointError
from .safe_pickle import read_checkpoint, tensors_of

__all__ = [
    'CheckpointError', 'Conversion', 'Fit', 'Reversion', 'check_against',
    'convert_backbone', 'convert_state_dict', 'read_checkpoint',
    'revert_state_dict', 'tensors_of'
]
