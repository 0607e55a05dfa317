"""The original's networks, and the names of their modules there and here.

In a table a key is a module of the original, whose tensors keep their names.
One that ends in a dot stands for all that is below it, the name of a tensor for
that tensor. The value is our name, empty where there is no counterpart here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from mmdet_centernet2.utils.errors import CheckpointError

Names = dict[str, str]

_TENSOR = re.compile(
    r'weight|bias|scale|running_mean|running_var|num_batches_tracked|edge_weights|weights_f[\d_]+'
)
_HEAD = 'proposal_generator.centernet_head.'
# Part -> kind -> how the name of a tensor begins, in the original or here, where it is of this
# kind; the first kind that is found counts.
_SIGNS = {
    'backbone': {
        'dla': r'backbone\.((base|bottom_up|backbone)\.)*(base_layer|level\d)\.',
        'res2net': r'backbone\.(bottom_up\.)?(res|layer)\d\.\d+\.convs\.',
        'resnet': r'backbone\.(bottom_up\.)?(res|layer)\d\.',
    },
    'neck': {
        'fcos-bifpn': r'backbone\.repeated_bifpn\.|neck\.cells\.',
        'bifpn': r'(backbone|neck)\.cell\.',
        'dla-up': r'(backbone|neck)\.dla_up\.',
        'fpn': r'backbone\.fpn_output|neck\.fpn_convs\.',
    },
    'stages': {
        'cascaded second stage': r'roi_heads?\.(box|bbox)_head\.\d+\.',
        'one second stage': r'roi_heads?\.',
        'one stage': '',
    },
    'masks': {', masks': r'roi_heads?\.mask_head\.', '': ''},
}


class Network(NamedTuple):
    """The parts that a detector is made of; ``resnet`` is ResNeXt, too."""

    backbone: str
    neck: str
    stages: str
    masks: str

    def __str__(self) -> str:
        return f'{self.backbone} backbone, {self.neck} neck, {self.stages}{self.masks}'


def find_network(names: Collection[str], ours: bool = False) -> Network:
    """The network of a state dict with the original's names, or with ours.

    Raises:
        CheckpointError: If it is not a CenterNet2 detector, or has the other names.
    """
    named = f'among its {len(names)} tensors, such as {", ".join(map(repr, [*names][:3]))}'
    original = next((name for name in names if name.startswith(_HEAD)), None)
    if ours and original:
        raise CheckpointError(
            f'the checkpoint has the original names (such as {original!r}): there is nothing to '
            'turn back. Leave out --reverse to convert it.'
        )
    if not ours and not original:
        raise CheckpointError(
            f'not a CenterNet or CenterNet2 detector with the original names: no {_HEAD}* '
            f'{named}. A checkpoint of this package needs no conversion (--reverse turns it '
            'back); the weights of a backbone alone are converted with --backbone-only.'
        )
    found = []
    for part, signs in _SIGNS.items():
        kinds = (k for k, sign in signs.items() if any(re.match(sign, name) for name in names))
        kind = next(kinds, None)
        if kind is None:
            raise CheckpointError(f'no {" or ".join(signs)} {part} of CenterNet2 found {named}.')
        found.append(kind)
    return Network(*found)


def rename(name: str, table: Mapping[str, str]) -> str | None:
    """Another name of a tensor: empty if it has no counterpart, None if it is unknown.

    >>> rename('fc1.bias', {'fc1': 'shared_fcs.0'})
    'shared_fcs.0.bias'
    """
    if name in table:
        return table[name]
    module, _, tensor = name.rpartition('.')
    if not _TENSOR.fullmatch(tensor):
        return None
    if module in table:
        return table[module] and f'{table[module]}.{tensor}'
    dots = (found.end() for found in re.finditer(r'\.', name))
    return next((table[name[:end]] + name[end:] for end in dots if name[:end] in table), None)


def reverse(table: Mapping[str, str]) -> Names:
    """Our names and the original's."""
    return {ours: theirs for theirs, ours in table.items() if ours}


def under(table: Mapping[str, str], theirs: str, ours: str) -> Names:
    """A table of modules that stand below others."""
    return {theirs + old: new and ours + new for old, new in table.items()}


def _residual(split: bool) -> Names:
    """ResNet and ResNeXt; with ``split`` Res2Net."""
    table = {'stem.conv1': 'conv1', 'stem.conv1.norm': 'bn1'}
    block = {
        'conv2_offset': 'conv2.conv_offset',
        'shortcut': 'downsample.0',
        'shortcut.norm': 'downsample.1',
    }
    if split:
        table = {f'stem.conv1.{i}': f'stem.{i}' for i in (0, 1, 3, 4, 6)}
        table['stem.bn1'] = 'stem.7'
        # The pooling before the 1x1 convolution is number 0 in both.
        block = {'shortcut.1': 'downsample.1', 'shortcut.1.norm': 'downsample.2'}
        for i in range(8):
            block[f'convs.{i}'] = f'convs.{i}'
            block[f'bns.{i}'] = f'bns.{i}'
            block[f'conv2_offsets.{i}'] = f'convs.{i}.conv_offset'
    for i in (1, 2, 3):
        block[f'conv{i}'] = f'conv{i}'
        block[f'conv{i}.norm'] = f'bn{i}'
    for s in range(2, 6):
        for b in range(36):
            table |= under(block, f'res{s}.{b}.', f'layer{s - 1}.{b}.')
    return table


RESNET, RES2NET = _residual(split=False), _residual(split=True)

_FPN = {f'backbone.top_block.p{i}': f'neck.fpn_convs.{i - 3}.conv' for i in (6, 7)}
for _level in (3, 4, 5):
    _FPN[f'backbone.fpn_lateral{_level}'] = f'neck.lateral_convs.{_level - 3}.conv'
    _FPN[f'backbone.fpn_output{_level}'] = f'neck.fpn_convs.{_level - 3}.conv'

_BIFPN = {'backbone.resample.': 'neck.resample.', 'backbone.cell.': 'neck.cell.'}
_FCOS_BIFPN = {
    # The first of the two added levels; the second has no tensors.
    'backbone.bottom_up.dla6.reduction.': 'neck.reduction.',
    'backbone.repeated_bifpn.': 'neck.cells.',
}

_DLA_UP = {'backbone.dla_up.': 'neck.dla_up.', 'backbone.ida_up.': 'neck.ida_up.'}
for _ida in ('dla_up.ida_0', 'dla_up.ida_1', 'dla_up.ida_2', 'ida_up'):
    for _unit in (f'{_ida}.{kind}_{i}' for kind in ('proj', 'node') for i in range(1, 5)):
        _DLA_UP[f'backbone.{_unit}.offset'] = f'neck.{_unit}.conv.conv_offset'

# Neck -> its modules, and where the original keeps a DLA below it.
_NECKS = {
    'fpn': (_FPN, 'backbone.bottom_up.'),
    'bifpn': (_BIFPN, 'backbone.bottom_up.'),
    'fcos-bifpn': (_FCOS_BIFPN, 'backbone.bottom_up.backbone.'),
    'dla-up': (_DLA_UP, 'backbone.base.'),
}

_ROI = {'deconv': 'upsample', 'predictor': 'conv_logits'}
_ROI |= {f'mask_fcn{i}': f'convs.{i - 1}.conv' for i in range(1, 9)}
_ROI = under(_ROI, 'roi_heads.mask_head.', 'roi_head.mask_head.')
for _stage in ('', *(f'{k}.' for k in range(8))):
    _boxes = {f'_head.{_stage}fc{j}': f'shared_fcs.{j - 1}' for j in range(1, 9)}
    _boxes |= {
        f'_predictor.{_stage}cls_score': 'fc_cls',
        f'_predictor.{_stage}bbox_pred': 'fc_reg',
        # Class frequencies of the federated loss, written by some versions.
        f'_predictor.{_stage}freq_weight': '',
        f'_predictor.{_stage}fed_loss_cls_weights': '',
    }
    _ROI |= under(_boxes, 'roi_heads.box', f'roi_head.bbox_head.{_stage}')


def key_map(network: Network, names: Collection[str]) -> Names:
    """The table of a detector, whose tensors have the original's ``names`` or ours."""
    neck, dla = _NECKS[network.neck]
    if network.backbone == 'dla':
        # The ImageNet classifier, kept unused in every stride-4 checkpoint.
        backbone = {dla: 'backbone.', f'{dla}fc': ''}
    else:
        modules = RESNET if network.backbone == 'resnet' else RES2NET
        backbone = under(modules, 'backbone.bottom_up.', 'backbone.')
    head = dict(bbox_pred='conv_reg', agn_hm='conv_agn', cls_logits='conv_cls')
    head['scales.'] = 'scales.'
    ours = 'bbox_head.' if network.stages == 'one stage' else 'rpn_head.'
    for tower, convs in dict(cls_tower='cls_convs', bbox_tower='reg_convs').items():
        for i in range(8):  # units of convolution (3i), norm (3i+1), ReLU
            unit, conv = f'{tower}.{3 * i}', f'{convs}.{i}.conv'
            head[f'{tower}.{3 * i + 1}'] = f'{convs}.{i}.gn'
            # the last one may be deformable
            offsets = f'{_HEAD}{unit}.offset.weight', f'{ours}{conv}.conv_offset.weight'
            if any(name in names for name in offsets):
                head[f'{unit}.offset'] = f'{conv}.conv_offset'
                unit += '.conv'
            head[unit] = conv
    # One-stage models persist them; here the data preprocessor has them.
    pixels = dict(pixel_mean='', pixel_std='')
    return backbone | neck | under(head, _HEAD, ours) | _ROI | pixels
