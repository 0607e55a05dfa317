"""ImageNet weights of a backbone alone, in the files that they come in.

A file is spelled in one of several ways: detectron2's
(``res2.0.conv1.weight``), Caffe2's (``res2_0_branch2a_w``), in which the MSRA
and FAIR ResNets are kept, or, for a Res2Net, that of its authors and of timm
(``layer1.0.conv1.weight``). Rules lead to detectron2's names, and from there a
key map to ours. A DLA has one spelling, but timm leaves out the projections
that are never used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mmdet_centernet2.utils.errors import CheckpointError

from .convert import Conversion, apply_key_map, collision
from .key_maps import COUNTERS, RES2NET, RESNET, dla
from .rules import Fill, KeyMap, Part, Rule, match, spell

_OURS, _D2 = 'backbone.', 'backbone.bottom_up.'

# Detectron's Caffe2 files hold a norm layer as scale and shift only: mean 0
# and variance 1 - eps make it exactly that. Only norm layers have a bias.
_STATISTICS = (
    Fill('backbone.{Path}.bias', 'backbone.{Path}.running_mean', torch.zeros_like, '0'),
    Fill(
        'backbone.{Path}.bias',
        'backbone.{Path}.running_var',
        lambda bias: torch.full_like(bias, 1 - 1e-5),
        '1 - 1e-5',
    ),
    *COUNTERS,
)

# In a DLA tree deeper than one only the innermost projection is used.
_USED, _UNUSED = '{Tree}.tree1.project.{Projection}', '{Tree}.project.{Projection}'
_UNUSED_PROJECTIONS = Fill(
    f'backbone.{_USED}',
    f'backbone.{_UNUSED}',
    Tensor.clone,
    'a copy of the projection in the tree below',
    idle=True,
)

# Classifiers, and the bias of Caffe's first convolution, which the original
# never loads.
_NOT_LOADED = ('fc.{Y}', 'linear.{Y}', 'fc1000.{Y}', 'stem.fc.{Y}', 'stem.conv1.bias')


def _backbone(part: Part, *fills: Fill) -> KeyMap:
    drops = part.drops + tuple(_D2 + name for name in _NOT_LOADED)
    return KeyMap(replace(part, drops=drops, fills=fills))


def _key_map(names: Collection[str]) -> KeyMap | None:
    """The key map for a file with detectron2's names, None if unknown."""
    if 'base_layer.0.weight' in names:
        used = filter(None, (match(_USED, name) for name in names))
        timms = not any(spell(_UNUSED, values) in names for values in used)
        return _backbone(dla(_D2), *COUNTERS, *[_UNUSED_PROJECTIONS] * timms)
    if any(name.startswith('stem.conv1.0.') for name in names):
        return _backbone(RES2NET, *COUNTERS)
    if 'stem.conv1.weight' in names:
        counted = any('.running_' in name for name in names)
        return _backbone(RESNET, *(COUNTERS if counted else _STATISTICS))
    return None


_DETECTRON = dict(s='weight', b='bias', rm='running_mean', riv='running_var')  # not the inverse
_DETECTRON2 = dict(gamma='weight', beta='bias')
_DETECTRON2 |= dict(running_mean='running_mean', running_var='running_var')
_CAFFE2_NORMS = _DETECTRON | _DETECTRON2
_CAFFE2_LAYERS = dict(branch1='shortcut', branch2a='conv1', branch2b='conv2', branch2c='conv3')
_CAFFE2 = [
    Rule('conv1_w', 'stem.conv1.weight'),
    Rule('conv1_b', 'stem.conv1.bias'),
    Rule('fc1000_w', 'fc1000.weight'),
    Rule('fc1000_b', 'fc1000.bias'),
    Rule('pred_w', 'fc1000.weight'),
    Rule('pred_b', 'fc1000.bias'),
]
for _theirs, _tensor in _CAFFE2_NORMS.items():
    _CAFFE2.append(Rule(f'res_conv1_bn_{_theirs}', f'stem.conv1.norm.{_tensor}'))
for _branch, _layer in _CAFFE2_LAYERS.items():
    _old, _new = f'res{{s}}_{{b}}_{_branch}', f'res{{s}}.{{b}}.{_layer}'
    _CAFFE2.append(Rule(f'{_old}_w', f'{_new}.weight'))
    for _theirs, _tensor in _CAFFE2_NORMS.items():
        _CAFFE2.append(Rule(f'{_old}_bn_{_theirs}', f'{_new}.norm.{_tensor}'))


def _block(theirs: str, d2: str) -> Rule:
    return Rule(f'layer{{s}}.{{b}}.{theirs}', f'res{{s+1}}.{{b}}.{d2}')


_TORCH_RES2NET = [
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
]
#: Templates that a file's names spell, and the rules to detectron2's names.
SPELLINGS = (
    (('res{s}_{b}_branch2a_w',), _CAFFE2),
    (('conv1.0.weight', 'layer{s}.{b}.convs.{i}.weight'), _TORCH_RES2NET),
)

# Tensors of mmdet's ResNet and ResNeXt, and of its Res2Net.
_MMDET_SIGNS = (
    {'conv1.weight', 'layer1.0.conv1.weight'},
    {'stem.0.weight', 'layer1.0.convs.0.weight'},
)


def convert_backbone(official: Mapping[str, Tensor]) -> Conversion:
    """Give the tensors of an ImageNet backbone our names.

    Args:
        official: Name in the file to tensor: a ResNet or ResNeXt in
            detectron2's or Caffe2's manner, a Res2Net in detectron2's, in
            that of its authors or of timm, or a DLA, timm's included.

    Returns:
        With names that fit the backbone itself, without ``backbone.``.

    Raises:
        CheckpointError: If it is none of these.
    """
    rules = next((rules for signs, rules in SPELLINGS if _spell(official, signs)), [])
    files: dict[str, str] = {}  # detectron2's name -> the file's
    for name in official:
        # A name that no rule knows stays, to be reported.
        new = next(filter(None, (rule.to_ours(name) for rule in rules)), name)
        if new in files:
            raise collision(files[new], name, new)
        files[new] = name
    names = _key_map(files)
    if names is None:
        raise CheckpointError(_unknown(official))
    found = apply_key_map({_D2 + new: official[old] for new, old in files.items()}, names)

    def ours(name: str) -> str:
        return name[len(_OURS) :]

    def file(name: str) -> str:
        return files[name[len(_D2) :]]

    return Conversion(
        state_dict={ours(k): v for k, v in found.state_dict.items()},
        sources={ours(k): file(v) for k, v in found.sources.items()},
        parts=found.parts,
        extras={file(k): v for k, v in found.extras.items()},
        filled={ours(k): v for k, v in found.filled.items()},
        idle=[ours(k) for k in found.idle],
        unplaced=[file(k) for k in found.unplaced],
        original_keys=list(official),
    )


def _spell(names: Collection[str], templates: Collection[str]) -> bool:
    """Whether each template is spelled by a name."""
    return all(any(match(template, name) is not None for name in names) for template in templates)


def _unknown(names: Mapping[str, Tensor]) -> str:
    if any(signs <= names.keys() for signs in _MMDET_SIGNS):
        return (
            "the weights already have the names of mmdet's ResNets: nothing to convert. Give the "
            "file itself to init_cfg=dict(type='Pretrained', checkpoint=...)."
        )
    return (
        'not the weights of a ResNet, ResNeXt, Res2Net or DLA in the original names: none of '
        'stem.conv1.weight (or conv1_w), stem.conv1.0.weight (or conv1.0.weight) and '
        f'base_layer.0.weight is there; the first names are {list(names)[:3]}.'
    )


# Blocks in the third stage -> depth.
_DEPTHS = {6: 50, 23: 101, 36: 152}


def imagenet_backbone(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Config of the backbone that ImageNet weights with our names are for.

    Raises:
        CheckpointError: If it is no DLA, and no ResNet, ResNeXt or Res2Net
            of a known depth.
    """
    if 'base_layer.0.weight' in state:
        deep = any(name.endswith('.conv3.weight') for name in state)
        return dict(type='DLA', depth=60 if deep else 34)
    blocks = {name.split('.')[1] for name in state if name.startswith('layer3.')}
    depth = _DEPTHS.get(len(blocks))
    kernel = state.get('layer1.0.conv2.weight')
    first = state.get('layer1.0.convs.0.weight')
    if depth is not None and first is not None:
        splits = sum(name.startswith('layer1.0.convs.') for name in state)
        return dict(type='Res2Net', depth=depth, scales=splits + 1, base_width=first.shape[0])
    if depth is None or kernel is None:
        raise CheckpointError(
            'the weights are not those of a ResNet, ResNeXt or Res2Net of depth '
            f'{", ".join(map(str, _DEPTHS.values()))}, nor of a DLA, so it cannot be told what '
            'they must fit. Give a config with such a backbone with --config.'
        )
    groups = kernel.shape[0] // kernel.shape[1]
    if groups == 1:
        return dict(type='ResNet', depth=depth)
    return dict(type='ResNeXt', depth=depth, groups=groups, base_width=kernel.shape[1])
