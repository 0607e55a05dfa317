"""One line of a key map: two name templates, compiled both ways.

A template is a tensor name with fields in braces:

* a lower-case letter is a layer index, with an optional factor and shift, so
  that ``{3i+1}`` stands for 1, 4, 7, ... and ``{s-1}`` for the index before
  ``s``;
* a capitalised word stands for the text of one pattern of :data:`WORDS`,
  such as ``{Y}`` for ``weight`` or ``bias``.

Both templates of a rule hold the same fields, which makes it reversible.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import (Callable, Collection, Container, Dict, Mapping, NamedTuple,
                    Optional, Pattern, Tuple, Union)

from torch import Tensor

_NORM = r'(?:weight|bias|running_mean|running_var|num_batches_tracked)'
_CONV_NORM = rf'(?:weight|bias|norm\.{_NORM})'

# Text that a capitalised field may stand for.
WORDS: Dict[str, str] = {
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
    'Dla': (r'(?:base_layer\.[01]|level[01]\.\d+'
            r'|level[2-5](?:\.tree[12])*'
            r'\.(?:conv[123]|bn[123]|root\.conv|root\.bn|project\.[01]))'
            rf'\.{_NORM}'),
    # The convolution or the norm of one effdet-BiFPN unit.
    'Unit': rf'conv\.(?:conv\.{_NORM}|bn\.{_NORM})',
    # The tensors of one node of the effdet-BiFPN, but for its resamplers.
    'Node': (r'(?:combine\.edge_weights'
             rf'|after_combine\.conv\.(?:conv\.{_NORM}|bn\.{_NORM}))'),
    # The tensors of one cell of the fcos-BiFPN.
    'Cell': (r'(?:weights_f\d+(?:_\d+){2,3}'
             rf'|outputs_f\d+(?:_\d+){{2,3}}\.{_CONV_NORM}'
             rf'|lateral_\d+_f\d+\.{_CONV_NORM})'),
    # The up-sampling stages around a DLA.
    'Ida': r'dla_up\.ida_\d+|ida_up',
    # A convolution followed by its norm, in detectron2's way of naming.
    'Conv': _CONV_NORM,
}

_FIELD = re.compile(r'\{(?:(?P<factor>\d*)(?P<index>[a-z])(?P<shift>[+-]\d+)?'
                    r'|(?P<word>[A-Z][a-z]*))\}')
Values = Dict[str, Union[int, str]]


class _Slot(NamedTuple):
    """One field of a template: its name and, for an index, ``a * i + b``."""

    name: str
    factor: int
    shift: int

    @property
    def is_word(self) -> bool:
        return self.name[0].isupper()

    def read(self, text: str) -> Union[int, str, None]:
        """Value of the field that ``text`` spells, None when there is none."""
        if self.is_word:
            return text
        value, rest = divmod(int(text) - self.shift, self.factor)
        return value if rest == 0 and value >= 0 else None

    def write(self, values: Values) -> str:
        """Text of the field for the given values."""
        value = values[self.name]
        return str(
            value if self.is_word else self.factor * value + self.shift)


@lru_cache(maxsize=None)
def _compile(template: str) -> Tuple[Pattern, Tuple[_Slot, ...]]:
    """Regular expression of a template, and its fields in order."""
    parts, slots, end = [], [], 0
    for found in _FIELD.finditer(template):
        parts.append(re.escape(template[end:found.start()]))
        end = found.end()
        name = found['word'] or found['index']
        slots.append(
            _Slot(name, int(found['factor'] or 1), int(found['shift'] or 0)))
        # No leading zeros: 'res02' is not another spelling of 'res2'.
        parts.append(f'({WORDS[name]})' if found['word'] else r'(0|[1-9]\d*)')
    parts.append(re.escape(template[end:]))
    return re.compile(''.join(parts)), tuple(slots)


def match(template: str, name: str) -> Optional[Values]:
    """Values of the template's fields that spell ``name``, or None.

    >>> match('tower.{3i+1}.{Y}', 'tower.7.bias')
    {'i': 2, 'Y': 'bias'}
    """
    pattern, slots = _compile(template)
    found = pattern.fullmatch(name)
    if found is None:
        return None
    values: Values = {}
    for slot, text in zip(slots, found.groups()):
        value = slot.read(text)
        if value is None or values.setdefault(slot.name, value) != value:
            return None
    return values


def spell(template: str, values: Values) -> str:
    """The name that a template spells with the given values.

    >>> spell('convs.{i}.gn.{Y}', {'i': 2, 'Y': 'bias'})
    'convs.2.gn.bias'
    """
    _, slots = _compile(template)
    texts = iter(slot.write(values) for slot in slots)
    return _FIELD.sub(lambda _: next(texts), template)


class ValueChange(NamedTuple):
    """How a tensor's value changes on its way, and back."""

    to_ours: Callable[[Tensor], Tensor]
    to_official: Callable[[Tensor], Tensor]
    text: str


def _squeeze(value: Tensor) -> Tensor:
    """[1] to a scalar; any other shape stays, to be reported as wrong."""
    return value.reshape(()) if tuple(value.shape) == (1, ) else value


def _unsqueeze(value: Tensor) -> Tensor:
    """A scalar to [1]; any other shape stays."""
    return value.reshape(1) if value.dim() == 0 else value


SAME = ValueChange(lambda value: value, lambda value: value, '')
# mmcv's Scale holds a 0-dim parameter, the original's a [1].
SCALAR = ValueChange(_squeeze, _unsqueeze, '[1] to a scalar')


@dataclass(frozen=True)
class Rule:
    """Names of one kind of tensor, in the original and here.

    Args:
        official (str): Template of the original's name.
        ours (str): Template of the name in this package.
        where (dict): Index field -> the values it may have.
        needs (str): Template of one of our names: the rule holds, on the way
            back, only where a tensor of that name exists. Tells a deformable
            convolution from a plain one where our names are the same.
        change (ValueChange): What happens to the value.
    """

    official: str
    ours: str
    where: Mapping[str, Container[int]] = field(default_factory=dict)
    needs: str = ''
    change: ValueChange = SAME

    def to_ours(self, name: str) -> Optional[str]:
        """Our name of the original's tensor ``name``, None if not mine."""
        values = self._allowed(match(self.official, name))
        if values is None:
            return None
        ours = spell(self.ours, values)
        # Below the first layer there is no name to go to ('fc0').
        return ours if match(self.ours, ours) == values else None

    def to_official(self, name: str, names: Collection[str]) -> Optional[str]:
        """The original's name of our tensor ``name`` among ``names``."""
        values = self._allowed(match(self.ours, name))
        if values is None:
            return None
        if self.needs and spell(self.needs, values) not in names:
            return None
        official = spell(self.official, values)
        return official if match(self.official, official) == values else None

    def _allowed(self, values: Optional[Values]) -> Optional[Values]:
        if values is None:
            return None
        kept = all(values[key] in allowed
                   for key, allowed in self.where.items())
        return values if kept else None


@dataclass(frozen=True)
class Fill:
    """A tensor that our modules have and the original's do not.

    Args:
        beside (str): Template of one of our names; each tensor that spells
            it gets a companion.
        add (str): Template of the companion's name.
        make (Callable): Companion's value, from the tensor it stands beside.
        text (str): The value in words.
        required (bool): Whether any other value cannot be turned back.
        idle (bool): Whether no output depends on it.
    """

    beside: str
    add: str
    make: Callable[[Tensor], Tensor]
    text: str
    required: bool = False
    idle: bool = False


@dataclass(frozen=True)
class Part:
    """The key map of one part of a detector.

    Args:
        name (str): What the part is.
        rules (tuple[Rule]): Tried in order, the first that fits is used.
        drops (tuple[str]): Templates of the original's tensors that have no
            counterpart here.
        fills (tuple[Fill]): Tensors that only our modules have.
    """

    name: str
    rules: Tuple[Rule, ...] = ()
    drops: Tuple[str, ...] = ()
    fills: Tuple[Fill, ...] = ()
