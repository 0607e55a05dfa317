"""Which of the original's networks a state dict belongs to, from its names."""

import re
from dataclasses import dataclass
from typing import Iterable, List, Mapping, Optional, Set

from torch import Tensor

from .errors import CheckpointError


@dataclass(frozen=True)
class Variant:
    """The parts that a detector is made of.

    Args:
        backbone (str): ``resnet`` (also ResNeXt), ``res2net`` or ``dla``.
        neck (str): ``fpn``, ``bifpn``, ``fcos-bifpn`` or ``dla-up``.
        roi (str): ``cascade``, ``single``, or ``none`` in one-stage models.
        mask (bool): Whether there is a mask head.
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
        stages = dict(none='one stage', single='one second stage',
                      cascade='cascaded second stage')[self.roi]
        return (f'{self.backbone} backbone, {self.neck} neck, {stages}'
                + (', masks' if self.mask else ''))


def _choose(names: Iterable[str], signs: Mapping[str, str]) -> Optional[str]:
    """The first kind whose sign one of the names starts with."""
    for kind, sign in signs.items():
        if any(re.match(sign, name) for name in names):
            return kind
    return None


# Kind -> how a tensor's name begins where the kind is present.
_OFFICIAL_NECKS = {
    'fcos-bifpn': r'backbone\.(repeated_bifpn|bottom_up\.backbone)\.',
    'bifpn': r'backbone\.(cell|resample)\.',
    'dla-up': r'backbone\.(dla_up|ida_up|base)\.',
    'fpn': r'backbone\.(fpn_lateral|fpn_output|top_block)',
}
_OFFICIAL_BACKBONES = {
    'dla': r'backbone\.(base|bottom_up|bottom_up\.backbone)\.'
           r'(base_layer|level\d)\.',
    'res2net': r'backbone\.bottom_up\.(stem\.conv1\.\d+\.'
               r'|res\d\.\d+\.(conv2_offsets|convs)\.)',
    'resnet': r'backbone\.bottom_up\.(stem\.conv1|res\d)\.',
}
_OFFICIAL_ROI = {
    'cascade': r'roi_heads\.box_(head|predictor)\.\d+\.',
    'single': r'roi_heads\.',
}
_OUR_NECKS = {
    'fcos-bifpn': r'neck\.(cells|reduction)\.',
    'bifpn': r'neck\.(cell|resample)\.',
    'dla-up': r'neck\.(dla_up|ida_up)\.',
    'fpn': r'neck\.(lateral_convs|fpn_convs)\.',
}
_OUR_BACKBONES = {
    'dla': r'backbone\.(base_layer|level\d)\.',
    'res2net': r'backbone\.(stem\.\d+\.|layer\d\.\d+\.convs\.)',
    'resnet': r'backbone\.(conv1|layer\d)\.',
}
_OUR_ROI = {
    'cascade': r'roi_head\.bbox_head\.\d+\.',
    'single': r'roi_head\.',
}


def detect_official(names: Iterable[str]) -> Variant:
    """The variant of a state dict with the original's names.

    Args:
        names (Iterable[str]): All tensor names.

    Raises:
        CheckpointError: if they are not those of a CenterNet2 detector.
    """
    names = list(names)
    if _looks_like_ours(names):
        raise CheckpointError(
            'the checkpoint already has the names of this package '
            f'(such as {_example(names, "neck.")!r}): nothing to convert. To '
            'turn it back into the original names, use --reverse.')
    if not any('centernet_head.' in name for name in names):
        raise CheckpointError(_not_a_detector(names))
    return _detect(names, _OFFICIAL_BACKBONES, _OFFICIAL_NECKS, _OFFICIAL_ROI,
                   'roi_heads.mask_head.')


def detect_ours(names: Iterable[str]) -> Variant:
    """The variant of a state dict with this package's names.

    Args:
        names (Iterable[str]): All tensor names.

    Raises:
        CheckpointError: if they are not those of a CenterNet2 detector.
    """
    names = list(names)
    if any(name.startswith('proposal_generator.') for name in names):
        raise CheckpointError(
            'the checkpoint has the original names (such as '
            f'{_example(names, "proposal_generator.")!r}): there is nothing '
            'to turn back. Leave out --reverse to convert it.')
    return _detect(names, _OUR_BACKBONES, _OUR_NECKS, _OUR_ROI,
                   'roi_head.mask_head.')


def _detect(names: List[str], backbones, necks, rois, mask: str) -> Variant:
    backbone, neck = _choose(names, backbones), _choose(names, necks)
    for part, kind, signs in (('backbone', backbone, backbones),
                              ('neck', neck, necks)):
        if kind is None:
            raise CheckpointError(
                f'no {part} of CenterNet2 found in the checkpoint: no tensor '
                f'of a {" or ".join(signs)} {part} among its {len(names)} '
                f'tensors ({_sample(names)}).')
    roi = _choose(names, rois) or 'none'
    masked = any(name.startswith(mask) for name in names)
    return Variant(backbone, neck, roi, masked)


def _looks_like_ours(names: List[str]) -> bool:
    return (any(name.startswith('neck.') for name in names)
            and any(name.startswith(('rpn_head.', 'bbox_head.'))
                    for name in names))


def _not_a_detector(names: List[str]) -> str:
    text = ('not a CenterNet or CenterNet2 detector: no tensor is called '
            'proposal_generator.centernet_head.* among the '
            f'{len(names)} in the checkpoint ({_sample(names)}).')
    if looks_like_backbone(names):
        text += (' It looks like the weights of a backbone alone: convert '
                 'them with --backbone-only.')
    return text


def looks_like_backbone(names: Iterable[str]) -> bool:
    """Whether the names are those of a classification network's weights."""
    sign = re.compile(r'(stem\.|res\d\.\d|res\d_\d|conv1_w|conv1\.|'
                      r'layer\d\.|base_layer\.)')
    return any(sign.match(name) for name in names)


def _example(names: List[str], prefix: str) -> str:
    return next(name for name in names if name.startswith(prefix))


def _sample(names: List[str]) -> str:
    if not names:
        return 'it holds none'
    text = ', '.join(repr(name) for name in names[:3])
    return text + (', ...' if len(names) > 3 else '')


def num_classes(state: Mapping[str, Tensor], variant: Variant) -> Set[int]:
    """Numbers of classes that the classifiers of a state dict have.

    Args:
        state (dict): Name in this package -> tensor.
        variant (Variant): What the state dict is.

    Returns:
        set[int]: Empty without a classifier. A second stage has one row
        more than classes, for the background.
    """
    if variant.roi == 'none':
        return {
            value.shape[0]
            for name, value in state.items()
            if name.endswith('bbox_head.conv_cls.weight')
        }
    return {
        value.shape[0] - 1
        for name, value in state.items() if name.endswith('.fc_cls.weight')
    }
