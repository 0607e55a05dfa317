"""Tensor names of the original CenterNet2 and of this package, both ways.

One table per part, each a list of :class:`Rule`; :func:`key_map` puts the
parts of a detector together.
"""

from typing import Collection, Dict, List, NamedTuple, Optional, Tuple

from ..variants import Variant
from .dla import DLA_UP, dla
from .heads import CASCADE_BOXES, MASK_HEAD, SINGLE_BOXES, centernet_head
from .necks import BIFPN, FCOS_BIFPN, FPN
from .resnets import RES2NET, RESNET
from .rule import SAME, SCALAR, Fill, Part, Rule, match, spell

__all__ = [
    'Fill', 'KeyMap', 'Part', 'Place', 'Rule', 'SAME', 'SCALAR', 'key_map',
    'match', 'spell'
]

_NECKS: Dict[str, Part] = {
    'fpn': FPN,
    'bifpn': BIFPN,
    'fcos-bifpn': FCOS_BIFPN,
    'dla-up': DLA_UP,
}
# Where the original keeps a DLA depends on what is built around it.
_DLA_PREFIX = {
    'fpn': 'backbone.bottom_up.',
    'bifpn': 'backbone.bottom_up.',
    'fcos-bifpn': 'backbone.bottom_up.backbone.',
    'dla-up': 'backbone.base.',
}


class Place(NamedTuple):
    """Where a tensor goes: the new name, and the rule and part that say it."""

    name: str
    rule: Rule
    part: Part


class KeyMap:
    """The names of one detector in the original and here.

    Args:
        parts (tuple[Part]): Its parts.
    """

    def __init__(self, parts: Tuple[Part, ...]) -> None:
        self.parts = parts

    def to_ours(self, name: str) -> Optional[Place]:
        """Where the original's tensor ``name`` goes, None if nowhere."""
        for part in self.parts:
            for rule in part.rules:
                ours = rule.to_ours(name)
                if ours is not None:
                    return Place(ours, rule, part)
        return None

    def to_official(self, name: str,
                    names: Collection[str]) -> Optional[Place]:
        """Where our tensor ``name``, one of ``names``, goes back to."""
        for part in self.parts:
            for rule in part.rules:
                official = rule.to_official(name, names)
                if official is not None:
                    return Place(official, rule, part)
        return None

    def is_dropped(self, name: str) -> bool:
        """Whether the original's tensor has no counterpart by design."""
        return any(
            match(template, name) is not None for part in self.parts
            for template in part.drops)

    def fills(self, name: str) -> List[Tuple[str, Fill]]:
        """Tensors that only our modules have beside our tensor ``name``."""
        found = []
        for part in self.parts:
            for fill in part.fills:
                values = match(fill.beside, name)
                if values is not None:
                    found.append((spell(fill.add, values), fill))
        return found


def key_map(variant: Variant) -> KeyMap:
    """The key map of a detector.

    Args:
        variant (Variant): Its parts, as found by
            :func:`~mmdet_centernet2.checkpoint.variants.detect_official`.
    """
    backbone = dict(
        resnet=RESNET,
        res2net=RES2NET,
        dla=dla(_DLA_PREFIX[variant.neck]))[variant.backbone]
    parts = [backbone, _NECKS[variant.neck], centernet_head(variant.head)]
    if variant.roi != 'none':
        parts.append(
            CASCADE_BOXES if variant.roi == 'cascade' else SINGLE_BOXES)
    if variant.mask:
        parts.append(MASK_HEAD)
    return KeyMap(tuple(parts))
