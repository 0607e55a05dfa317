"""Conversion of state dicts between the original's names and ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmdet_centernet2.utils.errors import CheckpointError

from .key_maps import Network, find_network, key_map, rename, reverse

StateDict = dict[str, Tensor]
#: Keys of a converted checkpoint's ``meta`` that the way back reads.
EXTRAS, KEYS = 'original_extras', 'original_keys'


class Fill(NamedTuple):
    """A tensor that our modules have and the original's do not."""

    beside: str  # regular expression in one of our names; each such tensor gets one
    add: str  # what stands in its place in the new tensor's name
    make: Callable[[Tensor], Tensor]  # its value, from the tensor it stands beside
    text: str  # the value in words
    required: bool = False  # whether it must be zero to be turned back


# FrozenBN has no such buffer, the batch norm of mmdet's ResNets has.
# Either statistic brings it in: when one is missing, only that is said.
COUNTER = Fill(
    r'^((?!neck\.).*)\.running_(mean|var)$',
    r'\1.num_batches_tracked',
    lambda statistics: torch.zeros((), dtype=torch.long),
    '0',
)
# The original's Res2Net has offset convolutions without a bias, mmcv's have one.
_OFFSET_BIAS = Fill(
    r'(\.convs\.\d\.conv_offset)\.weight$',
    r'\1.bias',
    lambda kernel: kernel.new_zeros(kernel.shape[0]),
    'zeros',
    required=True,
)
_FILLS = dict(resnet=[COUNTER], res2net=[COUNTER, _OFFSET_BIAS], dla=[])


@dataclass
class Conversion:
    """A state dict with our names, and how it came about.

    Attributes:
        network: None for a backbone alone.
        original_keys: All of the original's names, in order.
        state_dict: Our name to tensor.
        sources: Our name to the original's name.
        extras: The original's tensors that have no counterpart here.
        filled: Our name to the value that it was given, in words.
        unplaced: The original's names that are not known.
    """

    network: Network | None
    original_keys: list[str]
    state_dict: StateDict = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    extras: StateDict = field(default_factory=dict)
    filled: dict[str, str] = field(default_factory=dict)
    unplaced: list[str] = field(default_factory=list)

    def meta(self) -> dict[str, Any]:
        """What the way back needs, to be kept in the checkpoint's meta."""
        return {EXTRAS: self.extras, KEYS: self.original_keys}


def convert_state_dict(official: Mapping[str, Tensor]) -> Conversion:
    """Give a detector's tensors our names.

    Tensors share memory with the given ones. Names that could not be placed
    are listed, not an error.

    Raises:
        CheckpointError: If it is not a CenterNet2 detector, or if two of its
            names are for the same tensor.
    """
    network = find_network(official)
    return apply_names(official, key_map(network, official), _FILLS[network.backbone], network)


def apply_names(
    official: Mapping[str, Tensor],
    table: Mapping[str, str],
    fills: Sequence[Fill],
    network: Network | None = None,
) -> Conversion:
    """Give tensors the names of a table, and add what the original does not have.

    Raises:
        CheckpointError: If two of the names are for the same tensor.
    """
    result = Conversion(network, list(official))
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
                queue.append(new)
    return result


def filled(name: str, fills: Sequence[Fill]) -> list[tuple[str, Fill]]:
    """Tensors that only our modules have beside our tensor ``name``."""
    new = ((re.sub(fill.beside, fill.add, name), fill) for fill in fills)
    return [(other, fill) for other, fill in new if other != name]


def revert_state_dict(
    state: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None
) -> StateDict:
    """Give a detector's tensors the original's names back.

    Args:
        state: Our name to tensor.
        meta: The checkpoint's meta. One made by :meth:`Conversion.meta`
            restores the tensors that have no counterpart here, and the order.
            Without it they are left out: the original makes them itself.

    Raises:
        CheckpointError: If it is not a detector of this package, or if a
            tensor that the original does not have holds something.
    """
    network = find_network(state, ours=True)
    table = reverse(key_map(network, state))
    meta = meta or {}
    order = dict.fromkeys(meta.get(KEYS, ()))
    fills = _FILLS[network.backbone]
    added = {new: fill for name in state for new, fill in filled(name, fills)}
    official, unplaced = dict(meta.get(EXTRAS, {})), []
    for name, value in state.items():
        new = rename(name, table)
        if name in added and new not in order:
            if added[name].required and value.any():
                raise CheckpointError(
                    f'{name!r} cannot go back to the original, which has no such tensor and '
                    f'computes with zeros: it holds values up to {value.abs().max().item():.3g}.'
                )
        elif new is None:
            unplaced.append(name)
        else:
            scalar = name.endswith('.scale') and value.dim() == 0
            official[new] = value.reshape(1) if scalar else value
    if unplaced:
        raise CheckpointError(listed('no place in the original for', unplaced))
    return {name: official[name] for name in order if name in official} | official


def listed(title: str, names: Iterable[str]) -> str:
    """A title with the number of the names, and below it one in a line."""
    names = list(names)
    return '\n    '.join([f'{title} ({len(names)}):', *names])
