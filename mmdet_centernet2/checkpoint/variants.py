"""Which of the original's networks a state dict is, from its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from mmdet_centernet2.utils.errors import CheckpointError


@dataclass(frozen=True)
class Variant:
    """The parts that a detector is made of.

    Attributes:
        backbone: ``resnet`` (also ResNeXt), ``res2net`` or ``dla``.
        neck: ``fpn``, ``bifpn``, ``fcos-bifpn`` or ``dla-up``.
        roi: ``cascade``, ``single``, or ``none`` in one-stage models.
        mask: Whether there is a mask head.
    """

    backbone: str
    neck: str
    roi: str
    mask: bool

    @property
    def head(self) -> str:
        """Name of the CenterNet head in this package's models."""
        return 'bbox_head' if self.roi == 'none' else 'rpn_head'

    def __str__(self) -> str:
        stages = dict(none='one stage', single='one second stage', cascade='cascaded second stage')
        masks = ', masks' * self.mask
        return f'{self.backbone} backbone, {self.neck} neck, {stages[self.roi]}{masks}'


# Part -> kind -> how a tensor's name begins, in the original or here, where the kind is present.
_SIGNS = {
    'backbone': {
        'dla': r'backbone\.((base|bottom_up(\.backbone)?)\.)?(base_layer|level\d)\.',
        'res2net': r'backbone\.(bottom_up\.)?'
        r'(stem\.(conv1\.)?\d|(res|layer)\d\.\d+\.conv(2_offset)?s\.)',
        'resnet': r'backbone\.(bottom_up\.(stem\.conv1|res\d)|conv1|layer\d)\.',
    },
    'neck': {
        'fcos-bifpn': r'backbone\.(repeated_bifpn|bottom_up\.backbone)\.'
        r'|neck\.(cells|reduction)\.',
        'bifpn': r'(backbone|neck)\.(cell|resample)\.',
        'dla-up': r'(backbone|neck)\.(dla_up|ida_up|base)\.',
        'fpn': r'backbone\.(fpn_lateral|fpn_output|top_block)|neck\.(lateral|fpn)_convs\.',
    },
    'roi': {
        'cascade': r'roi_heads?\.(box_head|box_predictor|bbox_head)\.\d+\.',
        'single': r'roi_heads?\.',
    },
    'mask': {'mask': r'roi_heads?\.mask_head\.'},
}
_CLASSIFIER = r'stem\.|res\d[._]\d|conv1_w|conv1\.|layer\d\.|base_layer\.'


def detect_official(names: Iterable[str]) -> Variant:
    """The variant of a state dict with the original's names.

    Raises:
        CheckpointError: If they are not those of a CenterNet2 detector.
    """
    names = list(names)
    neck = _first(names, r'neck\.')
    if neck and _first(names, r'(rpn|bbox)_head\.'):
        raise CheckpointError(
            f'the checkpoint already has the names of this package (such as {neck!r}): nothing '
            'to convert. To turn it back into the original names, use --reverse.'
        )
    if not any('centernet_head.' in name for name in names):
        hint = 'It looks like the weights of a backbone alone: convert them with --backbone-only.'
        raise CheckpointError(
            'not a CenterNet or CenterNet2 detector: no tensor is called '
            f'proposal_generator.centernet_head.* among the {len(names)} in the checkpoint '
            f'({_sample(names)}). {hint if _first(names, _CLASSIFIER) else ""}'
        )
    return _detect(names)


def detect_ours(names: Iterable[str]) -> Variant:
    """The variant of a state dict with this package's names.

    Raises:
        CheckpointError: If they are not those of a CenterNet2 detector.
    """
    names = list(names)
    head = _first(names, r'proposal_generator\.')
    if head:
        raise CheckpointError(
            f'the checkpoint has the original names (such as {head!r}): there is nothing to turn '
            'back. Leave out --reverse to convert it.'
        )
    return _detect(names)


def _detect(names: list[str]) -> Variant:
    found = {
        part: next((kind for kind, sign in kinds.items() if _first(names, sign)), '')
        for part, kinds in _SIGNS.items()
    }
    for part in ('backbone', 'neck'):
        if not found[part]:
            raise CheckpointError(
                f'no {part} of CenterNet2 found in the checkpoint: no tensor of a '
                f'{" or ".join(_SIGNS[part])} {part} among its {len(names)} ({_sample(names)}).'
            )
    return Variant(
        found['backbone'], found['neck'], found['roi'] or 'none', mask=bool(found['mask'])
    )


def _first(names: Iterable[str], sign: str) -> str | None:
    """The first name that begins as the regular expression says."""
    return next((name for name in names if re.match(sign, name)), None)


def _sample(names: list[str]) -> str:
    return ', '.join(map(repr, names[:3])) + ', ...' * (len(names) > 3) or 'it holds none'


def num_classes(state: Mapping[str, Tensor]) -> set[int]:
    """Numbers of foreground classes of the classifiers in a state dict with our names."""
    # two-stage: one row is the background
    counts = {
        value.shape[0] - 1 for name, value in state.items() if name.endswith('.fc_cls.weight')
    }
    one_stage = state.get('bbox_head.conv_cls.weight')
    return counts if one_stage is None else {one_stage.shape[0]}
