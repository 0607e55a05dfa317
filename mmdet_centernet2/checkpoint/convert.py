"""Conversion of state dicts between the original's names and ours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmdet_centernet2.utils.errors import CheckpointError

from .key_maps import key_map, rename, reverse
from .variants import Variant, detect_official, detect_ours

StateDict = dict[str, Tensor]
#: Keys of a converted checkpoint's ``meta`` that the way back reads.
EXTRAS, KEYS = 'original_extras', 'original_keys'


class Fill(NamedTuple):
    """A tensor that our modules have and the original's do not.

    Attributes:
        beside: Regular expression in one of our names; each such tensor gets one.
        add: What stands in its place in the new tensor's name.
        make: The new value, from the tensor it stands beside.
        text: The value in words.
        required: Whether any other value cannot be turned back.
        idle: Whether no output depends on it.
    """

    beside: str
    add: str
    make: Callable[[Tensor], Tensor]
    text: str
    required: bool = False
    idle: bool = False


# FrozenBN has no such buffer, the batch norm of mmdet's ResNets has.
# Either statistic brings it in: when one is missing, only that is said.
COUNTER = Fill(
    r'^((?!neck\.).*)\.running_(mean|var)$',
    r'\1.num_batches_tracked',
    lambda statistics: torch.zeros((), dtype=torch.long),
    '0',
)
_FILLS = (
    COUNTER,
    # The original's Res2Net has offset convolutions without a bias, mmcv's have one.
    Fill(
        r'(\.convs\.\d\.conv_offset)\.weight$',
        r'\1.bias',
        lambda kernel: kernel.new_zeros(kernel.shape[0]),
        'zeros',
        required=True,
    ),
)


@dataclass
class Conversion:
    """A state dict with our names, and how it came about.

    Attributes:
        state_dict: Our name to tensor.
        variant: The network; None for a backbone alone.
        sources: Our name to the original's name.
        extras: The original's tensors that have no counterpart here.
        filled: Our name to the value that it was given, in words.
        idle: Those of them that no output depends on.
        unplaced: The original's names that are not known.
        original_keys: All of the original's names, in order.
    """

    state_dict: StateDict = field(default_factory=dict)
    variant: Variant | None = None
    sources: dict[str, str] = field(default_factory=dict)
    extras: StateDict = field(default_factory=dict)
    filled: dict[str, str] = field(default_factory=dict)
    idle: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)
    original_keys: list[str] = field(default_factory=list)

    @property
    def parts(self) -> Counter[str]:
        """Part of the detector to number of tensors in the original."""
        return Counter(name.split('.')[0] if self.variant else 'backbone' for name in self.sources)

    def meta(self) -> dict[str, Any]:
        """What the way back needs, to be kept in the checkpoint's meta."""
        return {EXTRAS: dict(self.extras), KEYS: list(self.original_keys)}


class Reversion(NamedTuple):
    """A state dict with the original's names.

    Attributes:
        state_dict: The original's name to tensor.
        variant: The network.
        left_out: Our names that the original does not have.
        unplaced: Our names that are not known.
    """

    state_dict: StateDict
    variant: Variant
    left_out: list[str]
    unplaced: list[str]


def convert_state_dict(official: Mapping[str, Tensor]) -> Conversion:
    """Give a detector's tensors our names.

    Tensors share memory with the given ones. Names that could not be placed
    are listed, not an error.

    Raises:
        CheckpointError: If it is not a CenterNet2 detector, or if two of its
            names are for the same tensor.
    """
    variant = detect_official(official)
    fills = _FILLS if variant.backbone != 'dla' else ()
    return apply_names(official, key_map(variant, official), fills, variant)


def apply_names(
    official: Mapping[str, Tensor],
    table: Mapping[str, str],
    fills: Sequence[Fill],
    variant: Variant | None = None,
) -> Conversion:
    """Give tensors the names of a table, and add what the original does not have.

    Raises:
        CheckpointError: If two of the names are for the same tensor.
    """
    result = Conversion(variant=variant, original_keys=list(official))
    state = result.state_dict
    for name, value in official.items():
        new = rename(name, table)
        if new is None:
            result.unplaced.append(name)
        elif not new:
            result.extras[name] = value
        elif new in state:
            raise CheckpointError(
                f'{result.sources[new]!r} and {name!r} in the checkpoint both stand for {new!r}; '
                'they come from two different networks.'
            )
        else:
            # [1] in the original, a scalar in mmcv. Another shape stays, to be reported as wrong.
            scalar = new.endswith('.scale') and value.shape == (1,)
            state[new] = value.reshape(()) if scalar else value
            result.sources[new] = name
    queue = list(state)
    for name in queue:  # grows: what is added may bring in more
        for new, fill in filled(name, fills):
            if new not in state:
                state[new] = fill.make(state[name])
                result.filled[new] = fill.text
                result.idle += [new] * fill.idle
                queue.append(new)
    return result


def filled(name: str, fills: Sequence[Fill]) -> list[tuple[str, Fill]]:
    """Tensors that only our modules have beside our tensor ``name``."""
    new = ((re.sub(fill.beside, fill.add, name), fill) for fill in fills)
    return [(other, fill) for other, fill in new if other != name]


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
    table = reverse(key_map(variant, state))
    meta = meta or {}
    order = dict.fromkeys(meta.get(KEYS, ()))
    fills = _FILLS if variant.backbone != 'dla' else ()
    added = {new: (state[name], fill) for name in state for new, fill in filled(name, fills)}
    result = Reversion({}, variant, left_out=[], unplaced=[])
    official = dict(meta.get(EXTRAS, {}))
    for name, value in state.items():
        new = rename(name, table)
        if new not in order and name in added and _is_fill(name, value, *added[name]):
            result.left_out.append(name)
        elif new is None:
            result.unplaced.append(name)
        else:
            scalar = name.endswith('.scale') and value.dim() == 0
            official[new] = value.reshape(1) if scalar else value
    result.state_dict.update({key: official[key] for key in order if key in official})
    result.state_dict.update(official)
    return result


def _is_fill(name: str, value: Tensor, beside: Tensor, fill: Fill) -> bool:
    """Whether a tensor is what :func:`apply_names` would have added."""
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
        loaded: Number of tensors that fit.
    """

    missing: list[str]
    unexpected: list[str]
    mismatched: list[Mismatch]
    loaded: int = 0

    def __bool__(self) -> bool:
        """Whether it fits exactly."""
        return not (self.left_out or self.unexpected)

    @property
    def left_out(self) -> list[str]:
        """Tensors of the model that the state dict has no value for."""
        return [*(item.name for item in self.mismatched), *self.missing]


def check_against(model_state: Mapping[str, Tensor], converted: Mapping[str, Tensor]) -> Fit:
    """Compare a state dict with a model's, name by name.

    Stricter than ``load_state_dict(strict=True)``, which takes a [1] for a
    scalar and forgives a missing ``num_batches_tracked``.
    """
    both = [name for name in model_state if name in converted]
    kinds = [Mismatch(name, _kind(converted[name]), _kind(model_state[name])) for name in both]
    mismatched = [kind for kind in kinds if kind.found != kind.expected]
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


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinite values."""
    return [name for name, value in state.items() if not value.isfinite().all()]
