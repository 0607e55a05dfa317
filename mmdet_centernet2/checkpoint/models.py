"""What a config says about a checkpoint: tensors, classes, backbones."""

from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Set, Union

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor

from ..datasets.palette import distinct_palette
from .errors import CheckpointError


def load_config(path: Union[str, Path]) -> Config:
    """Read a config and import what it needs.

    Args:
        path (str | Path): The config file.

    Raises:
        CheckpointError: if there is no such file, or it describes no model.
    """
    if not Path(path).is_file():
        raise CheckpointError(f'{path}: no such config.')
    try:
        config = Config.fromfile(str(path))
    except Exception as error:  # a config is a program: anything may happen
        raise CheckpointError(
            f'{path}: cannot be read as a config '
            f'({type(error).__name__}: {error})') from error
    if 'model' not in config:
        raise CheckpointError(f'{path}: describes no model.')
    return config


def model_state(config: Config, backbone_only: bool) -> Dict[str, Tensor]:
    """Names and shapes of the tensors of a config's model.

    The model is built without memory for its tensors, and not initialised.

    Args:
        config (Config): The config.
        backbone_only (bool): Only the backbone, its names without
            ``backbone.``.

    Raises:
        CheckpointError: if the model cannot be built.
    """
    part = config.model.get('backbone') if backbone_only else config.model
    if part is None:
        raise CheckpointError(f'{config.filename}: has no model.backbone.')
    return _state_of(part, config.filename)


def _state_of(part: dict, where: str) -> Dict[str, Tensor]:
    import mmdet.models  # noqa: F401  fills the registry
    from mmdet.registry import MODELS
    try:
        with DefaultScope.overwrite_default_scope('mmdet'):
            with torch.device('meta'):
                return MODELS.build(part).state_dict()
    except Exception as error:  # as many ways as there are modules
        raise CheckpointError(
            f'{where}: its model cannot be built '
            f'({type(error).__name__}: {error})') from error


# Blocks in the third stage -> depth.
_DEPTHS = {6: 50, 23: 101, 36: 152}


def imagenet_state(state: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """Names and shapes of the ImageNet backbone that weights are for.

    Args:
        state (Mapping): The weights, with our names.

    Raises:
        CheckpointError: see :func:`imagenet_backbone`.
    """
    part = imagenet_backbone(state)
    return _state_of(part, str(part))


def imagenet_backbone(state: Mapping[str, Tensor]) -> Dict[str, Any]:
    """Config of the backbone that ImageNet weights are for.

    Args:
        state (Mapping): The weights, with our names.

    Raises:
        CheckpointError: if it is no DLA, and no ResNet, ResNeXt or Res2Net
            of a known depth.
    """
    if 'base_layer.0.weight' in state:
        deep = any(name.endswith('.conv3.weight') for name in state)
        return dict(type='DLA', depth=60 if deep else 34)
    blocks = {
        name.split('.')[1]
        for name in state if name.startswith('layer3.')
    }
    depth = _DEPTHS.get(len(blocks))
    kernel = state.get('layer1.0.conv2.weight')
    first = state.get('layer1.0.convs.0.weight')
    if depth is not None and first is not None:
        splits = sum(name.startswith('layer1.0.convs.') for name in state)
        return dict(type='Res2Net', depth=depth, scales=splits + 1,
                    base_width=first.shape[0])
    if depth is None or kernel is None:
        raise CheckpointError(
            'the weights are not those of a ResNet, ResNeXt or Res2Net of '
            f'depth {", ".join(map(str, _DEPTHS.values()))}, nor of a DLA, '
            'so it cannot be told what they must fit. Give a config with such '
            'a backbone with --config.')
    groups = kernel.shape[0] // kernel.shape[1]
    if groups == 1:
        return dict(type='ResNet', depth=depth)
    return dict(type='ResNeXt', depth=depth, groups=groups,
                base_width=kernel.shape[1])


def class_keys(config: Config) -> Dict[str, int]:
    """Config keys that say the number of classes, and what they say."""
    found: Dict[str, int] = {}
    for path in (('bbox_head', ), ('roi_head', 'bbox_head'),
                 ('roi_head', 'mask_head')):
        node: Any = config.model
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        found.update(_class_keys('.'.join(('model', ) + path), node))
    return found


def _class_keys(name: str, node: Any) -> Dict[str, int]:
    if isinstance(node, (list, tuple)):
        found: Dict[str, int] = {}
        for index, item in enumerate(node):
            found.update(_class_keys(f'{name}[{index}]', item))
        return found
    if isinstance(node, dict) and 'num_classes' in node:
        return {f'{name}.num_classes': node['num_classes']}
    return {}


def class_advice(config: Config, found: Set[int]) -> Optional[str]:
    """What to change when a config has another number of classes.

    Args:
        config (Config): The config.
        found (set[int]): Numbers of classes in the checkpoint.

    Returns:
        str | None: None when they agree, or when it cannot be told.
    """
    keys = class_keys(config)
    if len(found) != 1 or not keys or set(keys.values()) == found:
        return None
    number, = found
    said = '\n'.join(f'    {key} = {value}' for key, value in keys.items())
    return (
        f'The checkpoint is for {number} classes, the config is not:\n{said}\n'
        f'  Set {"it" if len(keys) == 1 else "them"} to {number} to convert. '
        'To train on other classes, convert with the config of the original '
        'classes first, then give the result as load_from: layers of '
        'another size start anew.')


def dataset_meta(config: Config, classes: Set[int]) -> Optional[dict]:
    """Names of the classes, for the tools that draw them.

    Args:
        config (Config): The config.
        classes (set[int]): Numbers of classes in the checkpoint.

    Returns:
        dict | None: ``classes`` of the config's data set and a ``palette``
        with a colour for each; None if it has no classes, or another number.
    """
    import mmdet.datasets  # noqa: F401  fills the registry
    from mmdet.registry import DATASETS
    given = _dataset(config)
    kind = DATASETS.get(given.get('type')) if given.get('type') else None
    meta = dict(getattr(kind, 'METAINFO', None) or {})
    meta.update(given.get('metainfo') or {})
    names = tuple(str(name) for name in meta.get('classes', ()))
    if {len(names)} != classes:
        return None
    palette = meta.get('palette')
    if not isinstance(palette, (list, tuple)) or len(palette) < len(names):
        palette = distinct_palette(len(names))
    return dict(
        classes=names, palette=[tuple(map(int, colour)) for colour in palette])


def _dataset(config: Config) -> ConfigDict:
    """The data set that is tested on, out of its wrappers."""
    loader = config.get('test_dataloader') or config.get('val_dataloader')
    dataset = (loader or {}).get('dataset') or ConfigDict()
    while isinstance(dataset.get('dataset'), dict):
        dataset = dataset['dataset']
    return dataset
