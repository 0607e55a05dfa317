"""Resizing test images to the size that the original gives them."""

from __future__ import annotations

import copy

from mmdet.datasets.transforms import Resize as MMDetResize

from ...registry import TRANSFORMS

ROUNDINGS = ('nearest', 'down')


@TRANSFORMS.register_module()
class Resize(MMDetResize):
    """mmdet's ``Resize``; with ``keep_ratio=True`` it rounds as the original.

    That is, to the size that mmdet's ``ResizeShortestEdge`` and detectron2
    give, also where a side is halfway between two pixels.

    Tools such as SAHI look for a ``Resize`` in the test pipeline. So it is
    registered under this name, in the scope of this package::

        dict(type='Resize', _scope_='mmdet_centernet2', scale=(1333, 800),
             keep_ratio=True, backend='pillow')

    Args:
        *args: See mmdet's ``Resize``.
        rounding: With ``keep_ratio=True``: 'nearest', or 'down', which cuts
            sides to whole pixels as :class:`EfficientDetResizeCrop` does.
        **kwargs: See mmdet's ``Resize``.

    Raises:
        ValueError: If ``rounding`` is unknown.
    """

    def __init__(self, *args, rounding: str = 'nearest', **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if rounding not in ROUNDINGS:
            raise ValueError(f'rounding must be one of {ROUNDINGS}, got {rounding!r}')
        self.rounding = rounding

    def transform(self, results: dict) -> dict:
        """Resize the image and its annotations."""
        if not (self.keep_ratio and self.scale):
            return super().transform(results)
        plain = copy.copy(self)
        plain.scale = self._size(results['img'].shape[:2])
        plain.keep_ratio = False
        return MMDetResize.transform(plain, results)

    def _size(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Width and height after resizing; no side gets lost altogether."""
        short, longest = min(self.scale), max(self.scale)
        if self.rounding == 'down':
            factor = min(longest / max(img_size), short / min(img_size))
            lengths = [n * factor for n in img_size]
        else:
            lengths = _shortest_edge(img_size, short, longest)
        half = 0.5 if self.rounding == 'nearest' else 0
        height, width = (max(int(length + half), 1) for length in lengths)
        return width, height


def _shortest_edge(img_size: tuple[int, int], short: float, longest: float) -> list[float]:
    """Height and width before rounding, in detectron2's floating point."""
    height, width = img_size
    factor = short / min(img_size)
    if height < width:
        lengths = [short, factor * width]
    else:
        lengths = [factor * height, short]
    if max(lengths) > longest:
        factor = longest / max(lengths)
        lengths = [length * factor for length in lengths]
    return lengths
