"""Key maps of ResNet, ResNeXt and Res2Net."""

import torch
from torch import Tensor

from .rule import Fill, Part, Rule

_D2 = 'backbone.bottom_up.'
_STAGES = dict(s=range(2, 6))


def _not_counted(statistics: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.long, device=statistics.device)


def _no_offset(kernel: Tensor) -> Tensor:
    return kernel.new_zeros(kernel.shape[0])


# FrozenBN has no such buffer, the batch norm of mmdet's ResNets has.
# Either statistic brings it in: when one is missing, only that is said.
COUNTERS = tuple(
    Fill(f'backbone.{{Path}}.{name}', 'backbone.{Path}.num_batches_tracked',
         _not_counted, '0') for name in ('running_mean', 'running_var'))


def _block(official: str, ours: str, **kwargs) -> Rule:
    """A rule for the tensors of one residual block."""
    return Rule(f'{_D2}res{{s}}.{{b}}.{official}',
                f'backbone.layer{{s-1}}.{{b}}.{ours}',
                where=dict(_STAGES, **kwargs))


RESNET = Part(
    'backbone (ResNet/ResNeXt)',
    rules=(
        Rule(f'{_D2}stem.conv1.weight', 'backbone.conv1.weight'),
        Rule(f'{_D2}stem.conv1.norm.{{X}}', 'backbone.bn1.{X}'),
        _block('conv{i}.weight', 'conv{i}.weight', i=(1, 2, 3)),
        _block('conv{i}.norm.{X}', 'bn{i}.{X}', i=(1, 2, 3)),
        _block('conv2_offset.{Y}', 'conv2.conv_offset.{Y}'),
        _block('shortcut.weight', 'downsample.0.weight', b=(0, )),
        _block('shortcut.norm.{X}', 'downsample.1.{X}', b=(0, )),
    ),
    fills=COUNTERS)

RES2NET = Part(
    'backbone (Res2Net)',
    rules=(
        Rule(f'{_D2}stem.conv1.{{3i}}.weight', 'backbone.stem.{3i}.weight',
             where=dict(i=(0, 1, 2))),
        Rule(f'{_D2}stem.conv1.{{3i+1}}.{{X}}', 'backbone.stem.{3i+1}.{X}',
             where=dict(i=(0, 1))),
        Rule(f'{_D2}stem.bn1.{{X}}', 'backbone.stem.7.{X}'),
        _block('conv{i}.weight', 'conv{i}.weight', i=(1, 3)),
        _block('conv{i}.norm.{X}', 'bn{i}.{X}', i=(1, 3)),
        _block('convs.{i}.weight', 'convs.{i}.weight'),
        _block('bns.{i}.{X}', 'bns.{i}.{X}'),
        _block('conv2_offsets.{i}.weight', 'convs.{i}.conv_offset.weight'),
        # The pooling before the 1x1 convolution is number 0 in both.
        _block('shortcut.1.weight', 'downsample.1.weight', b=(0, )),
        _block('shortcut.1.norm.{X}', 'downsample.2.{X}', b=(0, )),
    ),
    fills=(
        *COUNTERS,
        # The original's offset convolutions have no bias, mmcv's have.
        Fill('backbone.{Path}.conv_offset.weight',
             'backbone.{Path}.conv_offset.bias', _no_offset, 'zeros',
             required=True),
    ))
