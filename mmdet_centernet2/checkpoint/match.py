"""Does a checkpoint fit the model of a config? Found out before the run.

mmengine loads what fits and logs the rest, so a detector whose class layers
stayed random would be tested without a word.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from torch import Tensor

from mmdet_centernet2.utils.errors import CheckpointError

from .convert import Conversion, listed
from .files import read_checkpoint, tensors_of
from .key_maps import key_map, rename, reverse

_SHOWN = 12  # tensors named in a message; the rest are counted


@dataclass
class Fit:
    """How a state dict fits a model.

    Attributes:
        missing: Names that only the model has.
        unexpected: Names that only the state dict has.
        mismatched: Names with another shape or kind: the one found, the one expected.
        loaded: Number of tensors that fit.
    """

    missing: list[str]
    unexpected: list[str]
    mismatched: dict[str, tuple[str, str]]
    loaded: int = 0

    def __bool__(self) -> bool:
        """Whether it fits exactly."""
        return not (self.left_out or self.unexpected)

    @property
    def left_out(self) -> list[str]:
        """Tensors of the model that the state dict has no value for."""
        return [*self.mismatched, *self.missing]


def check_against(model_state: Mapping[str, Tensor], converted: Mapping[str, Tensor]) -> Fit:
    """Compare a state dict with a model's, name by name.

    Stricter than ``load_state_dict(strict=True)``, which takes a [1] for a
    scalar and forgives a missing ``num_batches_tracked``.
    """
    both = [name for name in model_state if name in converted]
    kinds = {name: (_kind(converted[name]), _kind(model_state[name])) for name in both}
    mismatched = {name: kind for name, kind in kinds.items() if kind[0] != kind[1]}
    return Fit(
        missing=[name for name in model_state if name not in converted],
        unexpected=[name for name in converted if name not in model_state],
        mismatched=mismatched,
        loaded=len(both) - len(mismatched),
    )


def _kind(value: Tensor) -> str:
    """Shape of a tensor, and what it counts in where that is not floats."""
    shape = str(list(value.shape))
    return shape if value.is_floating_point() else f'{shape} of integers'


def model_state(part: dict, where: str | Path, device: str = 'meta') -> dict[str, Tensor]:
    """State dict of a detector or backbone, whose config stands in ``where``.

    On ``meta`` it takes no memory; models that compute while they are built need ``cpu``.

    Raises:
        CheckpointError: If it cannot be built.
    """
    try:
        with DefaultScope.overwrite_default_scope('mmdet'), torch.device(device):
            return MODELS.build(copy.deepcopy(part)).state_dict()
    except Exception as error:  # as many ways as there are modules
        raise CheckpointError(
            f'{where}: its model cannot be built ({type(error).__name__}: {error})'
        ) from error


def require_fit(
    conversion: Conversion, wanted: Mapping[str, Tensor], cfg: Config | None = None
) -> None:
    """Check that a conversion fits a model's state dict exactly.

    Raises:
        CheckpointError: Everything that is wrong, and what to do if ``cfg``
            has another number of classes.
    """
    state, network = conversion.state_dict, conversion.network
    fit = check_against(wanted, state)
    names = reverse(key_map(network, state)) if network else {}

    def both(name: str) -> str:
        original = conversion.sources.get(name) or rename(name, names)
        return f'{name} (original name: {original})' if original else name

    problems = {
        'no place for': conversion.unplaced,
        'not in the model': [both(name) for name in fit.unexpected],
        'missing in the checkpoint': [both(name) for name in fit.missing],
        'wrong shape': [
            f'{both(name)}: {found}, the model has {expected}'
            for name, (found, expected) in fit.mismatched.items()
        ],
    }
    lines = [listed(title, names) for title, names in problems.items() if names]
    differ, options = class_mismatch(cfg, fit, num_classes(state)) if cfg else ('', '')
    if options:
        lines.append(
            f'{differ}Set {options} to convert. To train on other classes, convert with the config '
            'of the original classes first, then give the result as load_from: layers of another '
            'size start anew.'
        )
    if lines:
        raise CheckpointError('\n'.join(['the checkpoint does not fit the model.', *lines]))


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
    tensors = tensors_of(checkpoint, path)
    # "module." is what DDP adds
    tensors = {name.removeprefix('module.'): value for name, value in tensors.items()}
    fit = check_against(model_state(cfg.model, cfg.filename, 'cpu'), tensors)
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
    differ, options = class_mismatch(cfg, fit, num_classes(tensors_of(checkpoint, '')))
    wrong = [
        f'  {name}: {found} in the checkpoint, {expected} in the model'
        for name, (found, expected) in fit.mismatched.items()
    ]
    wrong += [f'  {name}: not in the checkpoint' for name in fit.missing]
    if len(wrong) > _SHOWN:
        wrong[_SHOWN:] = [f'  and {len(wrong) - _SHOWN} more']
    first = f"{differ}{len(fit.left_out)} of the model's tensors get no value from it."
    remedy = 'What to do: use the config that it was trained with'
    if options:
        remedy += f', or set {options} and the classes of the data set (metainfo) to that number'
    return '\n'.join([first, *wrong, f'{remedy}.'])


def class_mismatch(cfg: Config, fit: Fit, trained: set[int]) -> tuple[str, str]:
    """Numbers of classes that differ, in words, and the options that mend it.

    Both are empty if the config has the number that a checkpoint was
    ``trained`` for, or if it cannot be told.
    """
    keys = {
        f'model.{path}.num_classes': count
        for path, count in num_classes_of(cfg.model)
        if any(name.startswith(f'{path}.') for name in fit.mismatched)
    }
    if len(trained) != 1 or not keys or set(keys.values()) == trained:
        return '', ''
    (number,) = trained
    given = ' and '.join(map(str, sorted(set(keys.values()))))
    said = f'it was trained for {number} classes, the config has {given} ({", ".join(keys)}). '
    return said, ' '.join(f'{key}={number}' for key in keys)


def dicts_in(node: object, path: str = '') -> Iterator[tuple[str, dict]]:
    """Each dictionary in a part of a config, with its dotted key."""
    if isinstance(node, (list, tuple)):
        node = dict(enumerate(node))
    elif isinstance(node, dict):
        yield path, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from dicts_in(value, f'{path}.{key}'.lstrip('.'))


def num_classes_of(model: dict) -> list[tuple[str, int]]:
    """Dotted key and value of each ``num_classes`` in a model's config."""
    return [(key, part['num_classes']) for key, part in dicts_in(model) if 'num_classes' in part]


def num_classes(state: Mapping[str, Tensor]) -> set[int]:
    """Numbers of foreground classes of the classifiers in a state dict with our names."""
    for name, value in state.items():
        if name.endswith('bbox_head.conv_cls.weight'):  # one-stage
            return {len(value)}
    # two-stage: one row is the background
    return {len(value) - 1 for name, value in state.items() if name.endswith('.fc_cls.weight')}
