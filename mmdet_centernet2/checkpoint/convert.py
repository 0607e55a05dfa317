"""Conversion of state dicts between the original's names and ours.

:func:`convert_state_dict` goes from the original to this package,
:func:`revert_state_dict` back, :func:`check_against` compares the outcome
with a model. Backbones alone are in ``backbones.py``. None of them touches a
file (see ``files.py``) or a config (see ``cli.py``).
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import torch
from torch import Tensor

from .errors import CheckpointError
from .key_maps import KeyMap, key_map
from .key_maps.rule import Fill
from .variants import Variant, detect_official, detect_ours

StateDict = Dict[str, Tensor]
# Keys of a converted checkpoint's ``meta`` that the way back reads.
EXTRAS, KEYS = 'original_extras', 'original_keys'


@dataclass
class Conversion:
    """A state dict with our names, and how it came about.

    Args:
        state_dict (dict): Our name -> tensor.
        variant (Variant): The network; None for a backbone alone.
        sources (dict): Our name -> the original's name.
        parts (Counter): Part of the detector -> number of tensors.
        extras (dict): The original's tensors that have no counterpart here.
        filled (dict): Our name -> the value that it was given, in words.
        idle (list[str]): Those of them that no output depends on.
        unplaced (list[str]): The original's names that no rule knows.
        original_keys (list[str]): All of the original's names, in order.
    """

    state_dict: StateDict = field(default_factory=dict)
    variant: Optional[Variant] = None
    sources: Dict[str, str] = field(default_factory=dict)
    parts: Counter = field(default_factory=Counter)
    extras: StateDict = field(default_factory=dict)
    filled: Dict[str, str] = field(default_factory=dict)
    idle: List[str] = field(default_factory=list)
    unplaced: List[str] = field(default_factory=list)
    original_keys: List[str] = field(default_factory=list)

    def meta(self) -> Dict[str, Any]:
        """What the way back needs, to be kept in the checkpoint's meta."""
        return {EXTRAS: dict(self.extras), KEYS: list(self.original_keys)}


@dataclass
class Reversion:
    """A state dict with the original's names.

    Args:
        state_dict (dict): The original's name -> tensor.
        variant (Variant): The network.
        left_out (list[str]): Our names that the original does not have.
        unplaced (list[str]): Our names that no rule knows.
    """

    state_dict: StateDict = field(default_factory=dict)
    variant: Optional[Variant] = None
    left_out: List[str] = field(default_factory=list)
    unplaced: List[str] = field(default_factory=list)


def convert_state_dict(official: Mapping[str, Tensor]) -> Conversion:
    """Give a detector's tensors our names.

    Args:
        official (Mapping): Name in the original -> tensor.

    Returns:
        Conversion: Its tensors share memory with the given ones. Names that
        could not be placed are listed, not an error.

    Raises:
        CheckpointError: if it is not a CenterNet2 detector, or if two of its
            names are for the same tensor.
    """
    variant = detect_official(official)
    conversion = apply_key_map(official, key_map(variant))
    conversion.variant = variant
    return conversion


def apply_key_map(official: Mapping[str, Tensor],
                  names: KeyMap) -> Conversion:
    """Give tensors our names by the rules of a key map.

    Args:
        official (Mapping): Name in the original -> tensor.
        names (KeyMap): The rules.

    Raises:
        CheckpointError: if two of the names are for the same tensor.
    """
    result = Conversion(original_keys=list(official))
    for name, value in official.items():
        place = names.to_ours(name)
        if place is None:
            if names.is_dropped(name):
                result.extras[name] = value
            else:
                result.unplaced.append(name)
            continue
        if place.name in result.state_dict:
            raise CheckpointError(
                collision(result.sources[place.name], name, place.name))
        result.state_dict[place.name] = place.rule.change.to_ours(value)
        result.sources[place.name] = name
        result.parts[place.part.name] += 1
    _fill(result, names)
    return result


def collision(first: str, second: str, new: str) -> str:
    """What is wrong when two names in a file are for one tensor."""
    return (f'{first!r} and {second!r} in the checkpoint both stand for '
            f'{new!r}; they come from two different networks.')


def _fill(result: Conversion, names: KeyMap) -> None:
    """Add the tensors that only our modules have."""
    queue = list(result.state_dict)
    for name in queue:
        for new, fill in names.fills(name):
            if new not in result.state_dict:
                result.state_dict[new] = fill.make(result.state_dict[name])
                result.filled[new] = fill.text
                if fill.idle:
                    result.idle.append(new)
                queue.append(new)


def revert_state_dict(state: Mapping[str, Tensor],
                      meta: Optional[Mapping[str, Any]] = None) -> Reversion:
    """Give a detector's tensors the original's names back.

    Args:
        state (Mapping): Our name -> tensor.
        meta (Mapping, optional): The checkpoint's meta. One made by
            :meth:`Conversion.meta` restores the tensors that have no
            counterpart here, and the order. Without it they are left out:
            the original makes them itself.

    Returns:
        Reversion: Every tensor has the shape and the bits of the original.

    Raises:
        CheckpointError: if it is not a detector of this package, or if a
            tensor that the original does not have holds something.
    """
    variant = detect_ours(state)
    names = key_map(variant)
    meta = meta or {}
    kept = set(meta.get(KEYS, ()))
    invented = _invented(state, names)
    result = Reversion(variant=variant)
    for name, value in state.items():
        place = names.to_official(name, state)
        official = place.name if place else None
        if official not in kept and _is_fill(name, value, state, invented):
            result.left_out.append(name)
        elif place is None:
            result.unplaced.append(name)
        else:
            result.state_dict[official] = place.rule.change.to_official(value)
    result.state_dict = {**meta.get(EXTRAS, {}), **result.state_dict}
    result.state_dict = _in_order(result.state_dict, meta.get(KEYS, ()))
    return result


class _Filled(NamedTuple):
    """A tensor of ours that stands beside another, and how it was made."""

    beside: str
    fill: Fill


def _invented(state: Mapping[str, Tensor],
              names: KeyMap) -> Dict[str, _Filled]:
    """Our names that may have been filled in."""
    return {
        new: _Filled(name, fill)
        for name in state for new, fill in names.fills(name) if new in state
    }


def _is_fill(name: str, value: Tensor, state: Mapping[str, Tensor],
             invented: Mapping[str, _Filled]) -> bool:
    """Whether a tensor is what :func:`_fill` would have put there."""
    if name not in invented:
        return False
    beside, fill = invented[name]
    if torch.equal(value, fill.make(state[beside]).to(value)):
        return True
    if fill.required:
        raise CheckpointError(
            f'{name!r} cannot go back to the original, which has no such '
            f'tensor and computes with {fill.text}: it holds other values, '
            'up to {:.3g}.'.format(value.abs().max().item()))
    return False


def _in_order(state: StateDict, keys: Sequence[str]) -> StateDict:
    """The tensors in the order of ``keys``, others after them."""
    ordered = {key: state[key] for key in keys if key in state}
    ordered.update(state)
    return ordered


class Mismatch(NamedTuple):
    """A tensor that has the right name and does not fit."""

    name: str
    found: str
    expected: str


@dataclass
class Fit:
    """How a state dict fits a model.

    Args:
        missing (list[str]): Names that only the model has.
        unexpected (list[str]): Names that only the state dict has.
        mismatched (list[Mismatch]): Names with another shape or kind.
    """

    missing: List[str]
    unexpected: List[str]
    mismatched: List[Mismatch]

    def __bool__(self) -> bool:
        """Whether it fits exactly."""
        return not (self.missing or self.unexpected or self.mismatched)


def check_against(model_state: Mapping[str, Tensor],
                  converted: Mapping[str, Tensor]) -> Fit:
    """Compare a state dict with a model's, name by name.

    Stricter than ``load_state_dict(strict=True)``, which takes a [1] for a
    scalar and forgives a missing ``num_batches_tracked``.

    Args:
        model_state (Mapping): The model's ``state_dict()``; its values are
            not looked at.
        converted (Mapping): The state dict to be loaded.
    """
    mismatched = []
    for name, expected in model_state.items():
        if name in converted:
            found, wanted = _kind(converted[name]), _kind(expected)
            if found != wanted:
                mismatched.append(Mismatch(name, found, wanted))
    return Fit(
        missing=[name for name in model_state if name not in converted],
        unexpected=[name for name in converted if name not in model_state],
        mismatched=mismatched)


def _kind(value: Tensor) -> str:
    """Shape of a tensor, and what it counts in where that is not floats."""
    shape = str(list(value.shape))
    return shape if value.is_floating_point() else f'{shape} of integers'


def not_finite(state: Mapping[str, Tensor]) -> List[str]:
    """Names of the tensors that hold NaN or infinite values."""
    return [name for name, value in state.items() if not _finite(value)]


def _finite(value: Tensor) -> bool:
    if not value.is_floating_point() or not value.numel():
        return True
    if value.element_size() < 4:  # not every torch compares halves
        value = value.float()
    # The extremes of a tensor with NaN are NaN: one pass, no copy.
    return all(torch.isfinite(end) for end in torch.aminmax(value))
