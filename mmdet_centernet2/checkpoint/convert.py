"""Conversion of state dicts between the original's names and ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmdet_centernet2.utils.errors import CheckpointError

from .key_maps import key_map
from .rules import Fill, KeyMap
from .variants import Variant, detect_official, detect_ours

StateDict = dict[str, Tensor]
#: Keys of a converted checkpoint's ``meta`` that the way back reads.
EXTRAS, KEYS = 'original_extras', 'original_keys'


@dataclass
class Conversion:
    """A state dict with our names, and how it came about.

    Attributes:
        state_dict: Our name to tensor.
        variant: The network; None for a backbone alone.
        sources: Our name to the original's name.
        parts: Part of the detector to number of tensors.
        extras: The original's tensors that have no counterpart here.
        filled: Our name to the value that it was given, in words.
        idle: Those of them that no output depends on.
        unplaced: The original's names that no rule knows.
        original_keys: All of the original's names, in order.
    """

    state_dict: StateDict = field(default_factory=dict)
    variant: Variant | None = None
    sources: dict[str, str] = field(default_factory=dict)
    parts: Counter = field(default_factory=Counter)
    extras: StateDict = field(default_factory=dict)
    filled: dict[str, str] = field(default_factory=dict)
    idle: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)
    original_keys: list[str] = field(default_factory=list)

    def meta(self) -> dict[str, Any]:
        """What the way back needs, to be kept in the checkpoint's meta."""
        return {EXTRAS: dict(self.extras), KEYS: list(self.original_keys)}


@dataclass
class Reversion:
    """A state dict with the original's names.

    Attributes:
        state_dict: The original's name to tensor.
        variant: The network.
        left_out: Our names that the original does not have.
        unplaced: Our names that no rule knows.
    """

    state_dict: StateDict = field(default_factory=dict)
    variant: Variant | None = None
    left_out: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)


def convert_state_dict(official: Mapping[str, Tensor]) -> Conversion:
    """Give a detector's tensors our names.

    Tensors share memory with the given ones. Names that could not be placed
    are listed, not an error.

    Raises:
        CheckpointError: If it is not a CenterNet2 detector, or if two of its
            names are for the same tensor.
    """
    variant = detect_official(official)
    conversion = apply_key_map(official, key_map(variant))
    conversion.variant = variant
    return conversion


def apply_key_map(official: Mapping[str, Tensor], names: KeyMap) -> Conversion:
    """Give tensors our names by the rules of a key map.

    Raises:
        CheckpointError: If two of the names are for the same tensor.
    """
    result = Conversion(original_keys=list(official))
    state = result.state_dict
    for name, value in official.items():
        place = names.to_ours(name)
        if place is not None:
            if place.name in state:
                raise collision(result.sources[place.name], name, place.name)
            # Another shape stays, to be reported as wrong.
            scalar = place.rule.scalar and value.shape == (1,)
            state[place.name] = value.reshape(()) if scalar else value
            result.sources[place.name] = name
            result.parts[place.part.name] += 1
        elif names.is_dropped(name):
            result.extras[name] = value
        else:
            result.unplaced.append(name)
    queue = list(state)
    for name in queue:  # grows: what is added may bring in more
        for new, fill in names.fills(name):
            if new not in state:
                state[new] = fill.make(state[name])
                result.filled[new] = fill.text
                result.idle += [new] * fill.idle
                queue.append(new)
    return result


def collision(first: str, second: str, new: str) -> CheckpointError:
    """Two names in a file are for one tensor."""
    return CheckpointError(
        f'{first!r} and {second!r} in the checkpoint both stand for {new!r}; '
        'they come from two different networks.'
    )


def revert_state_dict(
    state: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None
) -> Reversion:
    """Give a detector's tensors the original's names back.

    Args:
        state: Our name to tensor.
        meta: The checkpoint's meta. One made by :meth:`Conversion.meta`
            restores the tensors that have no counterpart here, and the order.
            Without it they are left out: the original makes them itself.

    Returns:
        Every tensor has the shape and the bits of the original.

    Raises:
        CheckpointError: If it is not a detector of this package, or if a
            tensor that the original does not have holds something.
    """
    variant = detect_ours(state)
    names = key_map(variant)
    meta = meta or {}
    order = dict.fromkeys(meta.get(KEYS, ()))
    fills = {new: (state[name], fill) for name in state for new, fill in names.fills(name)}
    result = Reversion(variant=variant)
    official = dict(meta.get(EXTRAS, {}))
    for name, value in state.items():
        place = names.to_official(name, state)
        stays = place is not None and place.name in order
        if not stays and name in fills and _is_fill(name, value, *fills[name]):
            result.left_out.append(name)
        elif place is None:
            result.unplaced.append(name)
        else:
            scalar = place.rule.scalar and value.dim() == 0
            official[place.name] = value.reshape(1) if scalar else value
    result.state_dict = {key: official[key] for key in order if key in official}
    result.state_dict.update(official)
    return result


def _is_fill(name: str, value: Tensor, beside: Tensor, fill: Fill) -> bool:
    """Whether a tensor is what :func:`apply_key_map` would have added."""
    if torch.equal(value, fill.make(beside).to(value)):
        return True
    if fill.required:
        raise CheckpointError(
            f'{name!r} cannot go back to the original, which has no such tensor and computes with '
            f'{fill.text}: it holds other values, up to {value.abs().max().item():.3g}.'
        )
    return False


class Mismatch(NamedTuple):
    """A tensor that has the right name and does not fit."""

    name: str
    found: str
    expected: str


@dataclass
class Fit:
    """How a state dict fits a model.

    Attributes:
        missing: Names that only the model has.
        unexpected: Names that only the state dict has.
        mismatched: Names with another shape or kind.
    """

    missing: list[str]
    unexpected: list[str]
    mismatched: list[Mismatch]

    def __bool__(self) -> bool:
        """Whether it fits exactly."""
        return not (self.missing or self.unexpected or self.mismatched)


def check_against(model_state: Mapping[str, Tensor], converted: Mapping[str, Tensor]) -> Fit:
    """Compare a state dict with a model's, name by name.

    Stricter than ``load_state_dict(strict=True)``, which takes a [1] for a
    scalar and forgives a missing ``num_batches_tracked``.
    """
    both = [name for name in model_state if name in converted]
    kinds = [Mismatch(name, _kind(converted[name]), _kind(model_state[name])) for name in both]
    return Fit(
        missing=[name for name in model_state if name not in converted],
        unexpected=[name for name in converted if name not in model_state],
        mismatched=[kind for kind in kinds if kind.found != kind.expected],
    )


def _kind(value: Tensor) -> str:
    """Shape of a tensor, and what it counts in where that is not floats."""
    shape = str(list(value.shape))
    return shape if value.is_floating_point() else f'{shape} of integers'


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinite values."""
    return [name for name, value in state.items() if not value.isfinite().all()]
