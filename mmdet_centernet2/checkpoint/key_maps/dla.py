"""Key maps of the DLA base network and its up-sampling neck.

Inner names are the original's; only the offset convolution of the deformable
layers moves to where mmcv's ``ModulatedDeformConv2dPack`` keeps it.
"""

from .rule import Part, Rule


def dla(prefix: str) -> Part:
    """The DLA base network.

    Args:
        prefix (str): Where the original keeps it, with the final dot. It
            depends on the neck: ``backbone.base.`` (stride-4 models),
            ``backbone.bottom_up.`` (effdet-BiFPN and FPN) or
            ``backbone.bottom_up.backbone.`` (fcos-BiFPN).
    """
    return Part(
        'backbone (DLA)',
        rules=(Rule(f'{prefix}{{Dla}}', 'backbone.{Dla}'), ),
        # The ImageNet classifier, kept unused in every stride-4 checkpoint.
        drops=(f'{prefix}fc.{{Y}}', ))


def _node(node: str) -> tuple:
    """Rules of a DCN-norm-ReLU unit of an IDAUp called ``{node}_{i}``."""
    inner = f'{{Ida}}.{node}_{{i}}'
    return (
        Rule(f'backbone.{inner}.conv.{{Y}}', f'neck.{inner}.conv.{{Y}}'),
        Rule(f'backbone.{inner}.offset.{{Y}}',
             f'neck.{inner}.conv.conv_offset.{{Y}}'),
        Rule(f'backbone.{inner}.actf.0.{{X}}', f'neck.{inner}.actf.0.{{X}}'),
    )


DLA_UP = Part(
    'neck (DLAUp, IDAUp)',
    rules=(
        *_node('proj'),
        *_node('node'),
        Rule('backbone.{Ida}.up_{i}.weight', 'neck.{Ida}.up_{i}.weight'),
    ))
