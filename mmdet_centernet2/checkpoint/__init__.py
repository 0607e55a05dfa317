"""Checkpoints: reading them safely, converting them both ways."""

from mmdet_centernet2.utils.errors import CheckpointError

from .convert import Conversion, convert_state_dict, revert_state_dict
from .files import read_checkpoint, tensors_of
from .imagenet import convert_backbone
from .match import Fit, check_against

__all__ = [
    'CheckpointError',
    'Conversion',
    'Fit',
    'check_against',
    'convert_backbone',
    'convert_state_dict',
    'read_checkpoint',
    'revert_state_dict',
    'tensors_of',
]
