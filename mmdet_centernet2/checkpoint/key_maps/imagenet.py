"""Names of ImageNet backbones, as files for the original carry them.

Two ways of naming are about: detectron2's (``res2.0.conv1.weight``) and
Caffe2's (``res2_0_branch2a_w``), in which the MSRA and FAIR ResNets are kept.
"""

from dataclasses import replace
from typing import Dict, Iterable, Optional, Tuple

import torch
from torch import Tensor

from . import KeyMap
from .dla import dla
from .resnets import COUNTERS, RES2NET, RESNET
from .rule import Fill, Part, Rule, match

PREFIX = 'backbone.bottom_up.'
# Added to every running variance by a norm layer before the square root.
_EPS = 1e-5


def _zeros(bias: Tensor) -> Tensor:
    return torch.zeros_like(bias)


def _unit_variance(bias: Tensor) -> Tensor:
    return torch.full_like(bias, 1 - _EPS)


# Caffe weights hold a norm layer as scale and shift only (spec §1.7): mean 0
# and variance 1 - eps make it exactly that. Only norm layers have a bias.
_STATISTICS = (
    Fill('backbone.{Path}.bias', 'backbone.{Path}.running_mean', _zeros, '0'),
    Fill('backbone.{Path}.bias', 'backbone.{Path}.running_var',
         _unit_variance, '1 - 1e-5'),
    *COUNTERS,
)

_CLASSIFIERS = ('fc.{Y}', 'linear.{Y}', 'fc1000.{Y}', 'stem.fc.{Y}')
# Caffe's first convolution has a bias, which the original never loads.
_UNUSED = _CLASSIFIERS + ('stem.conv1.bias', )


def _backbone(part: Part) -> KeyMap:
    drops = part.drops + tuple(PREFIX + name for name in _UNUSED)
    return KeyMap((replace(part, drops=drops, fills=_STATISTICS), ))


BACKBONES: Dict[str, KeyMap] = dict(
    resnet=_backbone(RESNET),
    res2net=_backbone(RES2NET),
    dla=_backbone(dla(PREFIX)))

_CAFFE2_TENSORS = dict(
    w='weight', bn_s='norm.weight', bn_b='norm.bias',
    bn_rm='norm.running_mean', bn_riv='norm.running_var')
_CAFFE2_LAYERS = dict(
    branch1='shortcut', branch2a='conv1', branch2b='conv2', branch2c='conv3')


def _caffe2_rules() -> Tuple[Rule, ...]:
    rules = [
        Rule('conv1_w', 'stem.conv1.weight'),
        Rule('conv1_b', 'stem.conv1.bias'),
        Rule('fc1000_w', 'fc1000.weight'),
        Rule('fc1000_b', 'fc1000.bias'),
        Rule('pred_w', 'fc1000.weight'),
        Rule('pred_b', 'fc1000.bias'),
    ]
    for theirs, d2 in _CAFFE2_TENSORS.items():
        if theirs.startswith('bn_'):
            rules.append(Rule(f'res_conv1_{theirs}', f'stem.conv1.{d2}'))
        for letter, layer in _CAFFE2_LAYERS.items():
            rules.append(
                Rule(f'res{{s}}_{{b}}_{letter}_{theirs}',
                     f'res{{s}}.{{b}}.{layer}.{d2}'))
    return tuple(rules)


CAFFE2_RULES = _caffe2_rules()


def is_caffe2(names: Iterable[str]) -> bool:
    """Whether the names are Caffe2's."""
    return any(
        match('res{s}_{b}_branch2a_w', name) is not None for name in names)


def caffe2_to_detectron2(name: str) -> Optional[str]:
    """detectron2's name of a Caffe2 tensor, None if there is none."""
    found = (rule.to_ours(name) for rule in CAFFE2_RULES)
    return next((new for new in found if new is not None), None)
