"""Names of the original's tensors and of ours: one table for each part."""

from __future__ import annotations

import torch

from .rules import Fill, KeyMap, Part, Rule
from .variants import Variant

_D2 = 'backbone.bottom_up.'
_HEAD = 'proposal_generator.centernet_head.'


# FrozenBN has no such buffer, the batch norm of mmdet's ResNets has.
# Either statistic brings it in: when one is missing, only that is said.
COUNTERS = tuple(
    Fill(
        f'backbone.{{Path}}.{name}',
        'backbone.{Path}.num_batches_tracked',
        lambda statistics: torch.zeros((), dtype=torch.long),
        '0',
    )
    for name in ('running_mean', 'running_var')
)


def _block(official: str, ours: str, **where) -> Rule:
    """A rule for the tensors of one residual block."""
    return Rule(
        f'{_D2}res{{s}}.{{b}}.{official}',
        f'backbone.layer{{s-1}}.{{b}}.{ours}',
        where=dict(s=range(2, 6), **where),
    )


RESNET = Part(
    'backbone (ResNet/ResNeXt)',
    rules=(
        Rule(f'{_D2}stem.conv1.weight', 'backbone.conv1.weight'),
        Rule(f'{_D2}stem.conv1.norm.{{X}}', 'backbone.bn1.{X}'),
        _block('conv{i}.weight', 'conv{i}.weight', i=(1, 2, 3)),
        _block('conv{i}.norm.{X}', 'bn{i}.{X}', i=(1, 2, 3)),
        _block('conv2_offset.{Y}', 'conv2.conv_offset.{Y}'),
        _block('shortcut.weight', 'downsample.0.weight', b=(0,)),
        _block('shortcut.norm.{X}', 'downsample.1.{X}', b=(0,)),
    ),
    fills=COUNTERS,
)

RES2NET = Part(
    'backbone (Res2Net)',
    rules=(
        Rule(f'{_D2}stem.conv1.{{3i}}.weight', 'backbone.stem.{3i}.weight', dict(i=(0, 1, 2))),
        Rule(f'{_D2}stem.conv1.{{3i+1}}.{{X}}', 'backbone.stem.{3i+1}.{X}', dict(i=(0, 1))),
        Rule(f'{_D2}stem.bn1.{{X}}', 'backbone.stem.7.{X}'),
        _block('conv{i}.weight', 'conv{i}.weight', i=(1, 3)),
        _block('conv{i}.norm.{X}', 'bn{i}.{X}', i=(1, 3)),
        _block('convs.{i}.weight', 'convs.{i}.weight'),
        _block('bns.{i}.{X}', 'bns.{i}.{X}'),
        _block('conv2_offsets.{i}.weight', 'convs.{i}.conv_offset.weight'),
        # The pooling before the 1x1 convolution is number 0 in both.
        _block('shortcut.1.weight', 'downsample.1.weight', b=(0,)),
        _block('shortcut.1.norm.{X}', 'downsample.2.{X}', b=(0,)),
    ),
    fills=(
        *COUNTERS,
        # The original's offset convolutions have no bias, mmcv's have.
        Fill(
            'backbone.{Path}.conv_offset.weight',
            'backbone.{Path}.conv_offset.bias',
            lambda kernel: kernel.new_zeros(kernel.shape[0]),
            'zeros',
            required=True,
        ),
    ),
)


def dla(prefix: str) -> Part:
    """The DLA base network, which the original keeps under ``prefix``."""
    return Part(
        'backbone (DLA)',
        rules=(Rule(f'{prefix}{{Dla}}', 'backbone.{Dla}'),),
        # The ImageNet classifier, kept unused in every stride-4 checkpoint.
        drops=(f'{prefix}fc.{{Y}}',),
    )


def _fpn(official: str, ours: str, *levels: int) -> Rule:
    return Rule(
        f'backbone.{official}{{l}}.{{Y}}', f'neck.{ours}.{{l-3}}.conv.{{Y}}', dict(l=levels)
    )


FPN = Part(
    'neck (FPN)',
    rules=(
        _fpn('fpn_lateral', 'lateral_convs', 3, 4, 5),
        _fpn('fpn_output', 'fpn_convs', 3, 4, 5),
        _fpn('top_block.p', 'fpn_convs', 6, 7),
    ),
)

BIFPN = Part(
    'neck (BiFPN)',
    rules=(
        Rule('backbone.resample.{i}.{Unit}', 'neck.resample.{i}.{Unit}'),
        Rule('backbone.cell.{r}.fnode.{n}.{Node}', 'neck.cell.{r}.fnode.{n}.{Node}'),
        Rule(
            'backbone.cell.{r}.fnode.{n}.combine.resample.{i}.{Unit}',
            'neck.cell.{r}.fnode.{n}.combine.resample.{i}.{Unit}',
        ),
    ),
)

FCOS_BIFPN = Part(
    'neck (fcos-BiFPN)',
    rules=(
        # dla6, the first of the two added levels; the second has no tensors.
        Rule('backbone.bottom_up.dla6.reduction.{Conv}', 'neck.reduction.{Conv}'),
        Rule('backbone.repeated_bifpn.{r}.{Cell}', 'neck.cells.{r}.{Cell}'),
    ),
)


def _dcn_unit(name: str) -> tuple[Rule, ...]:
    """Rules of a DCN-norm-ReLU unit of an IDAUp called ``{name}_{i}``."""
    unit = f'{{Ida}}.{name}_{{i}}'
    return (
        Rule(f'backbone.{unit}.conv.{{Y}}', f'neck.{unit}.conv.{{Y}}'),
        Rule(f'backbone.{unit}.offset.{{Y}}', f'neck.{unit}.conv.conv_offset.{{Y}}'),
        Rule(f'backbone.{unit}.actf.0.{{X}}', f'neck.{unit}.actf.0.{{X}}'),
    )


DLA_UP = Part(
    'neck (DLAUp, IDAUp)',
    rules=(
        *_dcn_unit('proj'),
        *_dcn_unit('node'),
        Rule('backbone.{Ida}.up_{i}.weight', 'neck.{Ida}.up_{i}.weight'),
    ),
)


def _tower(official: str, ours: str) -> tuple[Rule, ...]:
    """Rules of a tower: units of convolution (3i), norm (3i+1), ReLU."""
    return (
        Rule(f'{official}.{{3i}}.offset.{{Y}}', f'{ours}.{{i}}.conv.conv_offset.{{Y}}'),
        # A deformable convolution: our name is a plain one's, so on the way
        # back the offsets beside it tell.
        Rule(
            f'{official}.{{3i}}.conv.{{Y}}',
            f'{ours}.{{i}}.conv.{{Y}}',
            needs=f'{ours}.{{i}}.conv.conv_offset.weight',
        ),
        Rule(f'{official}.{{3i}}.{{Y}}', f'{ours}.{{i}}.conv.{{Y}}'),
        Rule(f'{official}.{{3i+1}}.{{Y}}', f'{ours}.{{i}}.gn.{{Y}}'),
    )


def _centernet_head(ours: str) -> Part:
    """The dense head, ``rpn_head`` or (one-stage models) ``bbox_head``."""
    return Part(
        f'{ours} (CenterNet)',
        rules=(
            *_tower(f'{_HEAD}cls_tower', f'{ours}.cls_convs'),
            *_tower(f'{_HEAD}bbox_tower', f'{ours}.reg_convs'),
            Rule(f'{_HEAD}bbox_pred.{{Y}}', f'{ours}.conv_reg.{{Y}}'),
            Rule(f'{_HEAD}agn_hm.{{Y}}', f'{ours}.conv_agn.{{Y}}'),
            Rule(f'{_HEAD}cls_logits.{{Y}}', f'{ours}.conv_cls.{{Y}}'),
            Rule(f'{_HEAD}scales.{{l}}.scale', f'{ours}.scales.{{l}}.scale', scalar=True),
        ),
        # One-stage models persist them; here the data preprocessor has them.
        drops=('pixel_mean', 'pixel_std'),
    )


def _box_heads(k: str) -> Part:
    """Box heads; ``k`` is the stage's index with a dot, or empty."""
    theirs, ours = 'roi_heads.box', f'roi_head.bbox_head.{k}'
    return Part(
        'roi_head (boxes)',
        rules=(
            Rule(f'{theirs}_head.{k}fc{{j}}.{{Y}}', f'{ours}shared_fcs.{{j-1}}.{{Y}}'),
            Rule(f'{theirs}_predictor.{k}cls_score.{{Y}}', f'{ours}fc_cls.{{Y}}'),
            Rule(f'{theirs}_predictor.{k}bbox_pred.{{Y}}', f'{ours}fc_reg.{{Y}}'),
        ),
        # Class frequencies of the federated loss, written by some versions.
        drops=(f'{theirs}_predictor.{k}freq_weight', f'{theirs}_predictor.{k}fed_loss_cls_weights'),
    )


MASK_HEAD = Part(
    'roi_head (masks)',
    rules=(
        Rule('roi_heads.mask_head.mask_fcn{i}.{Y}', 'roi_head.mask_head.convs.{i-1}.conv.{Y}'),
        Rule('roi_heads.mask_head.deconv.{Y}', 'roi_head.mask_head.upsample.{Y}'),
        Rule('roi_heads.mask_head.predictor.{Y}', 'roi_head.mask_head.conv_logits.{Y}'),
    ),
)

# Neck -> its part, and where the original keeps a DLA below it.
_NECKS: dict[str, tuple[Part, str]] = {
    'fpn': (FPN, 'backbone.bottom_up.'),
    'bifpn': (BIFPN, 'backbone.bottom_up.'),
    'fcos-bifpn': (FCOS_BIFPN, 'backbone.bottom_up.backbone.'),
    'dla-up': (DLA_UP, 'backbone.base.'),
}
_BOXES = {'none': (), 'single': (_box_heads(''),), 'cascade': (_box_heads('{k}.'),)}


def key_map(variant: Variant) -> KeyMap:
    """The key map of a detector made of the given parts."""
    neck, prefix = _NECKS[variant.neck]
    backbones = dict(resnet=RESNET, res2net=RES2NET, dla=dla(prefix))
    masks = (MASK_HEAD,) if variant.mask else ()
    return KeyMap(
        backbones[variant.backbone],
        neck,
        _centernet_head(variant.head),
        *_BOXES[variant.roi],
        *masks,
    )
