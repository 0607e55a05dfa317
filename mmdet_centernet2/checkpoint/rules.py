"""Rules that rename tensors, usable in both directions.

A rule is two templates of a tensor's name. Fields of a template stand in
braces: a lower-case letter is a layer index, with an optional factor and
shift (``{3i+1}`` stands for 1, 4, 7, ...); a capitalised word stands for text
that matches a pattern of :data:`WORDS` (``{Y}`` for ``weight`` or ``bias``).
Both templates hold the same fields, which makes the rule reversible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor

_NORM = r'(?:weight|bias|running_mean|running_var|num_batches_tracked)'
_CONV_NORM = rf'(?:weight|bias|norm\.{_NORM})'

# Text that a capitalised field may stand for.
WORDS: dict[str, str] = {
    # A convolution's or a linear layer's tensors.
    'Y': r'weight|bias',
    # A norm layer's tensors (batch or group norm).
    'X': _NORM,
    # Any dotted path.
    'Path': r'\w+(?:\.\w+)*',
    # The chain of first subtrees of a DLA level, and a projection's tensors.
    'Tree': r'level[2-5](?:\.tree1)*',
    'Projection': rf'0\.weight|1\.{_NORM}',
    # Everything inside a DLA base network.
    'Dla': r'(?:base_layer\.[01]|level[01]\.\d+|level[2-5](?:\.tree[12])*'
    rf'\.(?:conv[123]|bn[123]|root\.conv|root\.bn|project\.[01]))\.{_NORM}',
    # The convolution or the norm of one effdet-BiFPN unit.
    'Unit': rf'conv\.(?:conv|bn)\.{_NORM}',
    # The tensors of one node of the effdet-BiFPN, but for its resamplers.
    'Node': rf'combine\.edge_weights|after_combine\.conv\.(?:conv|bn)\.{_NORM}',
    # The tensors of one cell of the fcos-BiFPN.
    'Cell': r'weights_f\d+(?:_\d+){2,3}'
    rf'|(?:outputs_f\d+(?:_\d+){{2,3}}|lateral_\d+_f\d+)\.{_CONV_NORM}',
    # The up-sampling stages around a DLA.
    'Ida': r'dla_up\.ida_\d+|ida_up',
    # A convolution followed by its norm, in detectron2's way of naming.
    'Conv': _CONV_NORM,
}

_FIELD = re.compile(
    r'\{(?:(?P<factor>\d*)(?P<index>[a-z])(?P<shift>[+-]\d+)?|(?P<word>[A-Z][a-z]*))\}'
)
Values = dict[str, Any]  # index: int, word: str


@cache
def _compile(template: str) -> tuple[re.Pattern, list[re.Match]]:
    """Regular expression of a template, and its fields in order."""
    pattern, fields, end = '', list(_FIELD.finditer(template)), 0
    for found in fields:
        pattern += re.escape(template[end : found.start()])
        # No leading zeros: 'res02' is not another spelling of 'res2'.
        text = WORDS[found['word']] if found['word'] else r'0|[1-9]\d*'
        pattern += f'({text})'
        end = found.end()
    return re.compile(pattern + re.escape(template[end:])), fields


def match(template: str, name: str) -> Values | None:
    """Values of the template's fields that spell ``name``, or None.

    >>> match('tower.{3i+1}.{Y}', 'tower.7.bias')
    {'i': 2, 'Y': 'bias'}
    """
    pattern, fields = _compile(template)
    found = pattern.fullmatch(name)
    if found is None:
        return None
    values: Values = {}
    for slot, text in zip(fields, found.groups()):
        value: Any = text
        if slot['index']:
            value, rest = divmod(int(text) - int(slot['shift'] or 0), int(slot['factor'] or 1))
            if rest or value < 0:
                return None
        if values.setdefault(slot['word'] or slot['index'], value) != value:
            return None
    return values


def spell(template: str, values: Values) -> str:
    """The name that a template spells with the given values."""

    def text(slot: re.Match) -> str:
        if slot['word']:
            return str(values[slot['word']])
        return str(int(slot['factor'] or 1) * int(values[slot['index']]) + int(slot['shift'] or 0))

    return _FIELD.sub(text, template)


@dataclass(frozen=True)
class Rule:
    """Names of one kind of tensor, in the original and here.

    Attributes:
        official: Template of the original's name.
        ours: Template of the name in this package.
        where: Index field to the values it may have.
        needs: Template of one of our names: on the way back the rule holds
            only where that tensor exists. Tells a deformable convolution from
            a plain one where our names are the same.
        scalar: The original has shape [1] where mmcv has a scalar.
    """

    official: str
    ours: str
    where: Mapping[str, Container[int]] = field(default_factory=dict)
    needs: str = ''
    scalar: bool = False

    def to_ours(self, name: str) -> str | None:
        """Our name of the original's tensor ``name``, None if the rule is not for it."""
        return self._rename(self.official, self.ours, name)

    def to_official(self, name: str, names: Collection[str]) -> str | None:
        """The original's name of our tensor ``name``, one of ``names``."""
        values = match(self.ours, name)
        if values and self.needs and spell(self.needs, values) not in names:
            return None
        return self._rename(self.ours, self.official, name)

    def _rename(self, old: str, new: str, name: str) -> str | None:
        values = match(old, name)
        if values is None or any(values[key] not in allowed for key, allowed in self.where.items()):
            return None
        renamed = spell(new, values)
        # Below the first layer there is no name to go to ('fc0').
        return renamed if match(new, renamed) == values else None


@dataclass(frozen=True)
class Fill:
    """A tensor that our modules have and the original's do not.

    Attributes:
        beside: Template of one of our names; each such tensor gets one.
        add: Template of the new tensor's name.
        make: Its value, from the tensor it stands beside.
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


@dataclass(frozen=True)
class Part:
    """The rules of one part of a detector; the first that fits is used.

    ``drops`` are templates of the original's tensors without counterpart here,
    ``fills`` the tensors that only our modules have.
    """

    name: str
    rules: tuple[Rule, ...]
    drops: tuple[str, ...] = ()
    fills: tuple[Fill, ...] = ()


class Place(NamedTuple):
    """Where a tensor goes: the new name, and the rule and part that say it."""

    name: str
    rule: Rule
    part: Part


class KeyMap:
    """The names of one network in the original and here."""

    def __init__(self, *parts: Part) -> None:
        self.parts = parts

    def to_ours(self, name: str) -> Place | None:
        """Where the original's tensor ``name`` goes, None if nowhere."""
        return self._first(lambda rule: rule.to_ours(name))

    def to_official(self, name: str, names: Collection[str]) -> Place | None:
        """Where our tensor ``name``, one of ``names``, goes back to."""
        return self._first(lambda rule: rule.to_official(name, names))

    def _first(self, rename: Callable[[Rule], str | None]) -> Place | None:
        rules = ((rule, part) for part in self.parts for rule in part.rules)
        places = (Place(new, rule, part) for rule, part in rules if (new := rename(rule)))
        return next(places, None)

    def is_dropped(self, name: str) -> bool:
        """Whether the original's tensor has no counterpart by design."""
        drops = (template for part in self.parts for template in part.drops)
        return any(match(template, name) is not None for template in drops)

    def fills(self, name: str) -> list[tuple[str, Fill]]:
        """Tensors that only our modules have beside our tensor ``name``."""
        return [
            (spell(fill.add, values), fill)
            for part in self.parts
            for fill in part.fills
            if (values := match(fill.beside, name)) is not None
        ]
