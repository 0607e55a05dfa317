"""Key maps of the CenterNet head and the second stage."""

from .rule import SCALAR, Part, Rule

_D2 = 'proposal_generator.centernet_head.'


def _tower(official: str, ours: str) -> tuple:
    """Rules of a tower: units of convolution (3i), norm (3i+1), ReLU."""
    return (
        Rule(f'{_D2}{official}.{{3i}}.offset.{{Y}}',
             f'{ours}.{{i}}.conv.conv_offset.{{Y}}'),
        # A deformable convolution: our name is a plain one's, so on the way
        # back the offsets beside it tell.
        Rule(f'{_D2}{official}.{{3i}}.conv.{{Y}}',
             f'{ours}.{{i}}.conv.{{Y}}',
             needs=f'{ours}.{{i}}.conv.conv_offset.weight'),
        Rule(f'{_D2}{official}.{{3i}}.{{Y}}', f'{ours}.{{i}}.conv.{{Y}}'),
        Rule(f'{_D2}{official}.{{3i+1}}.{{Y}}', f'{ours}.{{i}}.gn.{{Y}}'),
    )


def centernet_head(ours: str) -> Part:
    """The dense head.

    Args:
        ours (str): ``rpn_head`` in two-stage models, ``bbox_head`` in
            one-stage ones.
    """
    return Part(
        f'{ours} (CenterNet)',
        rules=(
            *_tower('cls_tower', f'{ours}.cls_convs'),
            *_tower('bbox_tower', f'{ours}.reg_convs'),
            Rule(f'{_D2}bbox_pred.{{Y}}', f'{ours}.conv_reg.{{Y}}'),
            Rule(f'{_D2}agn_hm.{{Y}}', f'{ours}.conv_agn.{{Y}}'),
            Rule(f'{_D2}cls_logits.{{Y}}', f'{ours}.conv_cls.{{Y}}'),
            Rule(f'{_D2}scales.{{l}}.scale', f'{ours}.scales.{{l}}.scale',
                 change=SCALAR),
        ),
        # One-stage models persist them; here the data preprocessor has them.
        drops=('pixel_mean', 'pixel_std'))


def _box_head(k: str) -> Part:
    """Box heads; ``k`` is the stage's index with a dot, or empty."""
    return Part(
        'roi_head (boxes)',
        rules=(
            Rule(f'roi_heads.box_head.{k}fc{{j}}.{{Y}}',
                 f'roi_head.bbox_head.{k}shared_fcs.{{j-1}}.{{Y}}'),
            Rule(f'roi_heads.box_predictor.{k}cls_score.{{Y}}',
                 f'roi_head.bbox_head.{k}fc_cls.{{Y}}'),
            Rule(f'roi_heads.box_predictor.{k}bbox_pred.{{Y}}',
                 f'roi_head.bbox_head.{k}fc_reg.{{Y}}'),
        ),
        # Class frequencies of the federated loss, written by some versions.
        drops=(f'roi_heads.box_predictor.{k}freq_weight',
               f'roi_heads.box_predictor.{k}fed_loss_cls_weights'))


CASCADE_BOXES = _box_head('{k}.')
SINGLE_BOXES = _box_head('')

MASK_HEAD = Part(
    'roi_head (masks)',
    rules=(
        Rule('roi_heads.mask_head.mask_fcn{i}.{Y}',
             'roi_head.mask_head.convs.{i-1}.conv.{Y}'),
        Rule('roi_heads.mask_head.deconv.{Y}',
             'roi_head.mask_head.upsample.{Y}'),
        Rule('roi_heads.mask_head.predictor.{Y}',
             'roi_head.mask_head.conv_logits.{Y}'),
    ))
