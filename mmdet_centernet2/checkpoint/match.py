"""Does a checkpoint fit the model of a config? Found out before the run.

mmengine loads what fits and logs the rest, so a detector whose class layers
stayed random would be tested without a word.
"""

from __future__ import annotations

import copy
import os.path as osp
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmdet_centernet2.checkpoint import CheckpointError, read_checkpoint, tensors_of

_SHOWN = 6  # tensors named in a message; the rest are counted


@dataclass
class WeightsMatch:
    """How a checkpoint's tensors meet a model's.

    Attributes:
        loaded: Number of tensors that fit.
        missing: Tensors of the model that the checkpoint lacks.
        unexpected: Tensors that the model has no place for.
        reshaped: Name to (shape in the checkpoint, shape in the model) where
            the two differ.
    """

    loaded: int
    missing: list[str]
    unexpected: list[str]
    reshaped: dict[str, tuple]

    @property
    def left_out(self) -> list[str]:
        """Tensors of the model that keep their initial values."""
        return [*self.reshaped, *self.missing]


def load_checkpoint(path: str) -> dict:
    """Read a checkpoint of mmengine or a bare state dict.

    Args:
        path: A file, or what else mmengine loads from (URL, ``open-mmlab://``).

    Raises:
        CheckpointError: If the file cannot be read.
    """
    if '://' in path:
        return CheckpointLoader.load_checkpoint(path, map_location='cpu')
    if not osp.exists(path):
        raise CheckpointError(
            f'checkpoint {path} does not exist (looked for {osp.abspath(path)}). A training run '
            'writes its checkpoints into its work_dir.'
        )
    try:
        return read_checkpoint(path)
    except CheckpointError as error:
        raise CheckpointError(
            f'checkpoint {error} Its size is {osp.getsize(path)} bytes. Nothing was changed.'
        ) from error


def classes_of_checkpoint(checkpoint: dict) -> tuple | None:
    """Class names that mmengine saved with a checkpoint, if any."""
    meta = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
    return meta.get('classes')


def match_weights(model: nn.Module, state: dict[str, Tensor]) -> WeightsMatch:
    """Load what fits into a model and say what did not."""
    own = model.state_dict()
    reshaped = {
        name: (tuple(value.shape), tuple(own[name].shape))
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    }
    fitting = {k: v for k, v in state.items() if k not in reshaped}
    # Through load_state_dict, so that a module's own renaming takes part.
    missing, unexpected = model.load_state_dict(fitting, strict=False)
    missing = [k for k in missing if k not in reshaped and not k.endswith('num_batches_tracked')]
    return WeightsMatch(len(fitting) - len(unexpected), missing, unexpected, reshaped)


def match_config(cfg: Config, checkpoint: dict, path: str) -> WeightsMatch:
    """Build the config's model and compare it with a checkpoint.

    Raises:
        CheckpointError: If not a single tensor fits.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
        model = MODELS.build(copy.deepcopy(cfg.model))
    tensors = tensors_of(checkpoint, path)
    # "module." is what DDP adds
    tensors = {name.removeprefix('module.'): value for name, value in tensors.items()}
    match = match_weights(model, tensors)
    if match.loaded == 0:
        raise CheckpointError(
            f'{path} is for another model: none of its {len(tensors)} tensors fits the config '
            f'{cfg.filename}. Its first tensor is {next(iter(tensors))}. An original detectron2 '
            'checkpoint is converted first, with tools/model_converters/detectron2_to_mmdet.py.'
        )
    return match


def require_full_match(cfg: Config, path: str) -> dict:
    """Read a checkpoint that gives every tensor of a config's model a value.

    Raises:
        CheckpointError: If the file cannot be read, or a tensor of the model
            is missing in it or has another shape there.
    """
    checkpoint = load_checkpoint(path)
    match = match_config(cfg, checkpoint, path)
    if match.left_out:
        raise CheckpointError(
            f'{path} does not fit the config {cfg.filename}: '
            f'{explain_mismatch(cfg, checkpoint, match)}'
        )
    return checkpoint


def explain_mismatch(cfg: Config, checkpoint: dict, match: WeightsMatch) -> str:
    """Say which tensors do not fit, and the number of classes behind it."""
    lines = [f"{len(match.left_out)} of the model's tensors get no value from it."]
    keys = class_keys(cfg, match.reshaped)
    trained = _trained_classes(checkpoint, match)
    if keys and trained is not None and trained not in keys.values():
        numbers = ' and '.join(map(str, sorted(set(keys.values()))))
        lines[0] = (
            f'it was trained for {trained} classes, the config has {numbers} ({", ".join(keys)}). '
            + lines[0]
        )
    lines += [
        f'  {name}: {theirs} in the checkpoint, {ours} in the model'
        for name, (theirs, ours) in list(match.reshaped.items())[:_SHOWN]
    ]
    lines += [f'  {name}: not in the checkpoint' for name in match.missing[:_SHOWN]]
    hidden = max(len(match.reshaped) - _SHOWN, 0) + max(len(match.missing) - _SHOWN, 0)
    lines += [f'  and {hidden} more'] * bool(hidden)
    remedy = 'What to do: use the config that it was trained with'
    if keys and trained is not None:
        options = ' '.join(f'{key}={trained}' for key in keys)
        remedy += f', or set {options} and the classes of the data set (metainfo) to that number'
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


def _trained_classes(checkpoint: dict, match: WeightsMatch) -> int | None:
    """Number of classes, from saved names or the rows of a class layer."""
    names = classes_of_checkpoint(checkpoint)
    if names:
        return len(names)
    for name, (theirs, _) in match.reshaped.items():
        if name.endswith('fc_cls.bias'):  # one row is the background
            return theirs[0] - 1
        if name.endswith('conv_cls.bias'):
            return theirs[0]
    return None
