"""Conversion of ImageNet weights of a backbone alone."""

from typing import Dict, Mapping

from torch import Tensor

from .convert import Conversion, apply_key_map, collision
from .errors import CheckpointError
from .key_maps.imagenet import (BACKBONES, PREFIX, SPELLINGS, backbone_kind,
                                is_mmdet)


def convert_backbone(official: Mapping[str, Tensor]) -> Conversion:
    """Give the tensors of an ImageNet backbone our names.

    Args:
        official (Mapping): Name in the file -> tensor: a ResNet or ResNeXt
            in detectron2's or Caffe2's manner, a Res2Net in detectron2's, in
            that of its authors or of timm, or a DLA, timm's included.

    Returns:
        Conversion: With names that fit the backbone itself, without
        ``backbone.`` in front.

    Raises:
        CheckpointError: if it is none of these.
    """
    theirs = _detectron2_names(official)
    kind = backbone_kind(theirs)
    if kind is None:
        raise CheckpointError(_unknown(official))
    conversion = apply_key_map(
        {PREFIX + new: official[old]
         for new, old in theirs.items()}, BACKBONES[kind])
    return _without_prefix(conversion, theirs)


def _detectron2_names(official: Mapping[str, Tensor]) -> Dict[str, str]:
    """detectron2's name of each tensor -> its name in the file."""
    spelling = next((s for s in SPELLINGS if s.is_used_by(official)), None)
    if spelling is None:
        return {name: name for name in official}
    theirs: Dict[str, str] = {}
    for name in official:
        # A name nobody knows stays, and is reported as such.
        new = spelling.to_detectron2(name) or name
        if new in theirs:
            raise CheckpointError(collision(theirs[new], name, new))
        theirs[new] = name
    return theirs


def _unknown(names: Mapping[str, Tensor]) -> str:
    if is_mmdet(names):
        return (
            "the weights already have the names of mmdet's ResNets: nothing "
            'to convert. Give the file itself to '
            "init_cfg=dict(type='Pretrained', checkpoint=...).")
    return (
        'not the weights of a ResNet, ResNeXt, Res2Net or DLA in the original '
        'names: none of stem.conv1.weight (or conv1_w), stem.conv1.0.weight '
        '(or conv1.0.weight with layer1.0.convs.0.weight) and '
        f'base_layer.0.weight is there; the first names are '
        f'{list(names)[:3]}.')


def _without_prefix(found: Conversion, theirs: Dict[str, str]) -> Conversion:
    """Names of the backbone itself, and of the file as it was."""

    def ours(name: str) -> str:
        return name[len('backbone.'):]

    def file(name: str) -> str:
        return theirs[name[len(PREFIX):]]

    return Conversion(
        state_dict={ours(k): v for k, v in found.state_dict.items()},
        sources={ours(k): file(v) for k, v in found.sources.items()},
        parts=found.parts,
        extras={file(k): v for k, v in found.extras.items()},
        filled={ours(k): v for k, v in found.filled.items()},
        idle=[ours(k) for k in found.idle],
        unplaced=[file(k) for k in found.unplaced],
        original_keys=list(theirs.values()))
