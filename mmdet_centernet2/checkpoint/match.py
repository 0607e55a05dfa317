"""Does a checkpoint fit the model of a config? Found out before the run.

mmengine loads what fits and logs the rest, so a detector whose class layers
stayed random would be tested without a word.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

from mmdet_centernet2.utils.errors import CheckpointError

from .convert import Fit, check_against
from .files import read_checkpoint, tensors_of
from .variants import num_classes

_SHOWN = 12  # tensors named in a message; the rest are counted


def load_checkpoint(path: str) -> dict:
    """Read a file, or what else mmengine loads from (URL, ``open-mmlab://``).

    Raises:
        CheckpointError: If the file cannot be read.
    """
    if '://' in path:
        return CheckpointLoader.load_checkpoint(path, map_location='cpu')
    return read_checkpoint(path)


def classes_of_checkpoint(checkpoint: dict) -> tuple | None:
    """Class names that mmengine saved with a checkpoint, if any."""
    meta = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
    return meta.get('classes')


def match_config(cfg: Config, checkpoint: dict, path: str) -> Fit:
    """Build the config's model and compare it with a checkpoint.

    Raises:
        CheckpointError: If not a single tensor fits.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
        model = MODELS.build(copy.deepcopy(cfg.model))
    tensors = tensors_of(checkpoint, path)
    # "module." is what DDP adds
    tensors = {name.removeprefix('module.'): value for name, value in tensors.items()}
    fit = check_against(model.state_dict(), tensors)
    fit.missing = [name for name in fit.missing if not name.endswith('num_batches_tracked')]
    if fit.loaded == 0:
        raise CheckpointError(
            f'{path} is for another model: none of its {len(tensors)} tensors fits the config '
            f'{cfg.filename}. Its first tensor is {next(iter(tensors))}. An original detectron2 '
            'checkpoint is converted first, with tools/model_converters/detectron2_to_mmdet.py.'
        )
    return fit


def require_full_match(cfg: Config, path: str) -> dict:
    """Read a checkpoint that gives every tensor of a config's model a value.

    Raises:
        CheckpointError: If the file cannot be read, or a tensor of the model
            is missing in it or has another shape there.
    """
    checkpoint = load_checkpoint(path)
    fit = match_config(cfg, checkpoint, path)
    if fit.left_out:
        raise CheckpointError(
            f'{path} does not fit the config {cfg.filename}: '
            f'{explain_mismatch(cfg, checkpoint, fit)}'
        )
    return checkpoint


def explain_mismatch(cfg: Config, checkpoint: dict, fit: Fit) -> str:
    """Say which tensors do not fit, and the number of classes behind it."""
    lines = [f"{len(fit.left_out)} of the model's tensors get no value from it."]
    keys = class_keys(cfg, (item.name for item in fit.mismatched))
    names = classes_of_checkpoint(checkpoint)
    trained = {len(names)} if names else num_classes(tensors_of(checkpoint, ''))
    remedy = 'What to do: use the config that it was trained with'
    if keys and len(trained) == 1:
        (number,) = trained
        if number not in keys.values():
            numbers = ' and '.join(map(str, sorted(set(keys.values()))))
            lines[0] = (
                f'it was trained for {number} classes, the config has {numbers} '
                f'({", ".join(keys)}). {lines[0]}'
            )
        options = ' '.join(f'{key}={number}' for key in keys)
        remedy += f', or set {options} and the classes of the data set (metainfo) to that number'
    wrong = [
        f'  {item.name}: {item.found} in the checkpoint, {item.expected} in the model'
        for item in fit.mismatched
    ]
    wrong += [f'  {name}: not in the checkpoint' for name in fit.missing]
    lines += wrong[:_SHOWN]
    lines += [f'  and {len(wrong) - _SHOWN} more'] * (len(wrong) > _SHOWN)
    return '\n'.join([*lines, remedy + '.'])


def class_keys(cfg: Config, names: Iterable[str]) -> dict[str, int]:
    """Config keys (and values) that set the classes of the named tensors."""
    names = list(names)
    return {
        f'model.{path}.num_classes': count
        for path, count in num_classes_of(cfg.model)
        if any(name.startswith(f'{path}.') for name in names)
    }


def num_classes_of(node, path: str = '') -> Iterator[tuple[str, int]]:
    """Walk a model's config: dotted key and value of each ``num_classes``."""
    if isinstance(node, (list, tuple)):
        node = dict(enumerate(node))
    if isinstance(node, dict):
        if 'num_classes' in node:
            yield path, node['num_classes']
        for key, value in node.items():
            yield from num_classes_of(value, f'{path}.{key}'.lstrip('.'))
