"""ImageNet weights of a backbone alone, in the files that they come in.

A file is spelled in one of several ways: detectron2's
(``res2.0.conv1.weight``), Caffe2's (``res2_0_branch2a_w``), in which the MSRA
and FAIR ResNets are kept, or, for a Res2Net, that of its authors and of timm
(``layer1.0.conv1.weight``). A DLA has one spelling, but timm leaves out the
projections that are never used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmdet_centernet2.utils.errors import CheckpointError

from .convert import COUNTER, Conversion, Fill, apply_names, filled
from .key_maps import RES2NET, RESNET, Names

# Detectron's Caffe2 files hold a norm layer as scale and shift only: mean 0
# and variance 1 - eps make it exactly that. Only norm layers have a bias.
_STATISTICS = [
    Fill(r'\.bias$', '.running_mean', torch.zeros_like, '0'),
    Fill(r'\.bias$', '.running_var', lambda bias: torch.full_like(bias, 1 - 1e-5), '1 - 1e-5'),
]

# In a DLA tree deeper than one only the innermost projection is used.
_UNUSED_PROJECTIONS = Fill(
    r'^(level[2-5](\.tree1)*)\.tree1\.project\.',
    r'\1.project.',
    Tensor.clone,
    'a copy of the projection in the tree below (no output depends on it)',
)

# Classifiers, and the bias of Caffe's first convolution, which the original
# never loads.
_NOT_LOADED = dict.fromkeys(('fc', 'linear', 'fc1000', 'stem.fc', 'stem.conv1.bias'), '')


def _caffe2() -> Names:
    """Caffe2's names of a ResNet's tensors, as Detectron and as detectron2 writes norms."""
    norms = dict(s='weight', b='bias', rm='running_mean', riv='running_var')  # not the inverse
    norms |= dict(gamma='weight', beta='bias')
    norms |= dict(running_mean='running_mean', running_var='running_var')
    table = dict.fromkeys(('conv1_b', 'fc1000_w', 'fc1000_b', 'pred_w', 'pred_b'), '')
    words = dict(conv1='branch2a', conv2='branch2b', conv3='branch2c', shortcut='branch1')
    for theirs, ours in RESNET.items():
        name = '_'.join(words.get(word, word) for word in theirs.removesuffix('.norm').split('.'))
        if theirs.endswith('.norm'):
            name = name.replace('stem_branch2a', 'res_conv1')
            table |= {f'{name}_bn_{norm}': f'{ours}.{tensor}' for norm, tensor in norms.items()}
        else:
            table[f'{name.replace("stem_branch2a", "conv1")}_w'] = f'{ours}.weight'
    return table


# mmdet's names of a Res2Net and ours of a DLA are those of their authors, but for the stem.
_RES2NET = {'conv1.': 'stem.', 'bn1': 'stem.7'} | {f'layer{i}.': f'layer{i}.' for i in range(1, 5)}
_DLA = {'base_layer.': 'base_layer.'} | {f'level{i}.': f'level{i}.' for i in range(6)}


def convert_backbone(official: Mapping[str, Tensor]) -> Conversion:
    """Give the tensors of an ImageNet backbone our names, without ``backbone.``.

    Raises:
        CheckpointError: If it is no ResNet, ResNeXt, Res2Net or DLA in a known spelling.
    """
    fills = [COUNTER]
    if 'base_layer.0.weight' in official:
        table = _DLA
        unused = (new for name in official for new, _ in filled(name, [_UNUSED_PROJECTIONS]))
        if not any(name in official for name in unused):  # timm's
            fills.append(_UNUSED_PROJECTIONS)
    elif 'stem.conv1.0.weight' in official:
        table = RES2NET
    elif 'conv1.0.weight' in official:
        table = _RES2NET
    elif 'stem.conv1.weight' in official or 'conv1_w' in official:
        table = RESNET if 'stem.conv1.weight' in official else _caffe2()
        if not any(re.search(r'_rm$|_riv$|running_(mean|var)$', name) for name in official):
            fills += _STATISTICS
    else:
        raise CheckpointError(
            'not the weights of a ResNet, ResNeXt, Res2Net or DLA in the original names: none of '
            'stem.conv1.weight (or conv1_w), stem.conv1.0.weight (or conv1.0.weight) and '
            f'base_layer.0.weight is there; the first names are {list(official)[:3]}. Weights '
            "with mmdet's names need no conversion: give the file to "
            "init_cfg=dict(type='Pretrained', checkpoint=...)."
        )
    return apply_names(official, table | _NOT_LOADED, fills)


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
    if depth and 'layer1.0.convs.0.weight' in state:
        splits = sum(name.startswith('layer1.0.convs.') for name in state)
        width = len(state['layer1.0.convs.0.weight'])
        return dict(type='Res2Net', depth=depth, scales=splits + 1, base_width=width)
    if depth and 'layer1.0.conv2.weight' in state:
        outputs, width = state['layer1.0.conv2.weight'].shape[:2]
        groups = outputs // width
        wide = dict(groups=groups, base_width=width) if groups > 1 else {}
        return dict(type='ResNeXt' if wide else 'ResNet', depth=depth, **wide)
    raise CheckpointError(
        f'it cannot be told which ResNet, ResNeXt, Res2Net or DLA of depth {[*_DEPTHS.values()]} '
        'the weights must fit. Give a config with such a backbone with --config.'
    )
