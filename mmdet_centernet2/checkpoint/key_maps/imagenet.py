"""Names of ImageNet backbones, in the files that they come in.

A file is spelled in one of several ways: detectron2's
(``res2.0.conv1.weight``), Caffe2's (``res2_0_branch2a_w``), in which the MSRA
and FAIR ResNets are kept, or, for a Res2Net, that of its authors and of timm
(``layer1.0.conv1.weight``). A :class:`Spelling` leads to detectron2's names,
and from there a key map to ours. A DLA has one spelling, but timm leaves out
the projections that are never used.
"""

from dataclasses import dataclass, replace
from typing import Collection, Dict, Optional, Tuple

import torch
from torch import Tensor

from . import KeyMap
from .dla import dla
from .resnets import COUNTERS, RES2NET, RESNET
from .rule import Fill, Part, Rule, match, spell

PREFIX = 'backbone.bottom_up.'
# Added to every running variance by a norm layer before the square root.
_EPS = 1e-5


def _zeros(bias: Tensor) -> Tensor:
    return torch.zeros_like(bias)


def _unit_variance(bias: Tensor) -> Tensor:
    return torch.full_like(bias, 1 - _EPS)


# Detectron's Caffe2 files hold a norm layer as scale and shift only: mean 0
# and variance 1 - eps make it exactly that. Only norm layers have a bias.
_STATISTICS = (
    Fill('backbone.{Path}.bias', 'backbone.{Path}.running_mean', _zeros, '0'),
    Fill('backbone.{Path}.bias', 'backbone.{Path}.running_var',
         _unit_variance, '1 - 1e-5'),
    *COUNTERS,
)

# In a DLA tree deeper than one only the innermost projection is used.
_USED, _UNUSED = '{Tree}.tree1.project.{Projection}', (
    '{Tree}.project.{Projection}')
_UNUSED_PROJECTIONS = Fill(
    f'backbone.{_USED}', f'backbone.{_UNUSED}', Tensor.clone,
    'a copy of the projection in the tree below', idle=True)

_CLASSIFIERS = ('fc.{Y}', 'linear.{Y}', 'fc1000.{Y}', 'stem.fc.{Y}')
# Caffe's first convolution has a bias, which the original never loads.
_NOT_LOADED = _CLASSIFIERS + ('stem.conv1.bias', )


def _backbone(part: Part, *fills: Fill) -> KeyMap:
    drops = part.drops + tuple(PREFIX + name for name in _NOT_LOADED)
    return KeyMap((replace(part, drops=drops, fills=fills), ))


BACKBONES: Dict[str, KeyMap] = {
    'resnet': _backbone(RESNET, *COUNTERS),
    'resnet without statistics': _backbone(RESNET, *_STATISTICS),
    'res2net': _backbone(RES2NET, *COUNTERS),
    'dla': _backbone(dla(PREFIX), *COUNTERS),
    'dla of timm': _backbone(
        dla(PREFIX), *COUNTERS, _UNUSED_PROJECTIONS),
}


def backbone_kind(names: Collection[str]) -> Optional[str]:
    """Key of :data:`BACKBONES` for a file, None if it is none of them.

    Args:
        names (Collection[str]): Its tensors, in detectron2's names.
    """
    if 'base_layer.0.weight' in names:
        return 'dla' if _has_unused_projection(names) else 'dla of timm'
    if any(name.startswith('stem.conv1.0.') for name in names):
        return 'res2net'
    if 'stem.conv1.weight' in names:
        counted = any('.running_' in name for name in names)
        return 'resnet' if counted else 'resnet without statistics'
    return None


def _has_unused_projection(names: Collection[str]) -> bool:
    found = (match(_USED, name) for name in names)
    return any(
        values is not None and spell(_UNUSED, values) in names
        for values in found)


@dataclass(frozen=True)
class Spelling:
    """One way of naming the tensors of a backbone in a file.

    Args:
        signs (tuple[str]): Templates that some name must spell, each of them.
        rules (tuple[Rule]): Lead to detectron2's names.
    """

    signs: Tuple[str, ...]
    rules: Tuple[Rule, ...]

    def is_used_by(self, names: Collection[str]) -> bool:
        """Whether a file with these names is spelled in this way."""
        return all(
            any(match(sign, name) is not None for name in names)
            for sign in self.signs)

    def to_detectron2(self, name: str) -> Optional[str]:
        """detectron2's name of a tensor, None if there is none."""
        found = (rule.to_ours(name) for rule in self.rules)
        return next((new for new in found if new is not None), None)


# detectron2's files say gamma, beta, running_mean, running_var; Detectron's
# say s, b, rm, riv (which is the running variance).
_CAFFE2_TENSORS = dict(
    w='weight', bn_s='norm.weight', bn_b='norm.bias',
    bn_rm='norm.running_mean', bn_riv='norm.running_var',
    bn_gamma='norm.weight', bn_beta='norm.bias',
    bn_running_mean='norm.running_mean', bn_running_var='norm.running_var')
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


def _block(theirs: str, d2: str, **where) -> Rule:
    return Rule(f'layer{{s}}.{{b}}.{theirs}', f'res{{s+1}}.{{b}}.{d2}',
                where=where)


_TORCH_RES2NET_RULES = (
    Rule('conv1.{i}.{X}', 'stem.conv1.{i}.{X}'),
    Rule('bn1.{X}', 'stem.bn1.{X}'),
    Rule('fc.{Y}', 'fc.{Y}'),
    _block('conv{i}.weight', 'conv{i}.weight'),
    _block('bn{i}.{X}', 'conv{i}.norm.{X}'),
    _block('convs.{i}.weight', 'convs.{i}.weight'),
    _block('bns.{i}.{X}', 'bns.{i}.{X}'),
    # The pooling before the 1x1 convolution is number 0.
    _block('downsample.1.weight', 'shortcut.1.weight'),
    _block('downsample.2.{X}', 'shortcut.1.norm.{X}'),
)

SPELLINGS: Tuple[Spelling, ...] = (
    Spelling(('res{s}_{b}_branch2a_w', ), _caffe2_rules()),
    Spelling(('conv1.0.weight', 'layer{s}.{b}.convs.{i}.weight'),
             _TORCH_RES2NET_RULES),
)

# First convolution of mmdet's ResNet and ResNeXt, and of its Res2Net, with a
# convolution of its first block.
_MMDET_SIGNS = (('conv1.weight', 'layer1.0.conv1.weight'),
                ('stem.0.weight', 'layer1.0.convs.0.weight'))


def is_mmdet(names: Collection[str]) -> bool:
    """Whether the names are those that mmdet's ResNets have already."""
    return any(set(signs) <= set(names) for signs in _MMDET_SIGNS)
