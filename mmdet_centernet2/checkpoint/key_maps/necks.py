"""Key maps of the FPN and of the two BiFPNs."""

from .rule import Part, Rule

FPN = Part(
    'neck (FPN)',
    rules=(
        Rule('backbone.fpn_lateral{l}.{Y}',
             'neck.lateral_convs.{l-3}.conv.{Y}', where=dict(l=(3, 4, 5))),
        Rule('backbone.fpn_output{l}.{Y}', 'neck.fpn_convs.{l-3}.conv.{Y}',
             where=dict(l=(3, 4, 5))),
        Rule('backbone.top_block.p{l}.{Y}', 'neck.fpn_convs.{l-3}.conv.{Y}',
             where=dict(l=(6, 7))),
    ))

BIFPN = Part(
    'neck (BiFPN)',
    rules=(
        Rule('backbone.resample.{i}.{Unit}', 'neck.resample.{i}.{Unit}'),
        Rule('backbone.cell.{r}.fnode.{n}.{Node}',
             'neck.cell.{r}.fnode.{n}.{Node}'),
        Rule('backbone.cell.{r}.fnode.{n}.combine.resample.{i}.{Unit}',
             'neck.cell.{r}.fnode.{n}.combine.resample.{i}.{Unit}'),
    ))

FCOS_BIFPN = Part(
    'neck (fcos-BiFPN)',
    rules=(
        # dla6, the first of the two added levels; the second has no tensors.
        Rule('backbone.bottom_up.dla6.reduction.{Conv}',
             'neck.reduction.{Conv}'),
        Rule('backbone.repeated_bifpn.{r}.{Cell}', 'neck.cells.{r}.{Cell}'),
    ))
