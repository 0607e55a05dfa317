"""Boxes, masks and names on a picture, in the manner of mmdet's."""
from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .detections import Detections
from .model_info import ModelInfo

_WIDTH = 3  # of lines, in pixels
_OPACITY = 0.8
_TEXT, _BEHIND_TEXT = (200, 200, 200), (0, 0, 0)
# Names on boxes of less than 30000 square pixels are half as large.
_FONT_SIZE, _SMALL_AREA = 18, 30000


def draw(image: np.ndarray, found: Detections, info: ModelInfo,
         score_thr: float = 0.3) -> np.ndarray:
    """Draw what is found, the best on top.

    Args:
        image (ndarray): (h, w, 3), uint8, BGR.
        found (Detections): In pixels of the image.
        info (ModelInfo): With the names and colours of the classes.
        score_thr (float): Smallest score that is drawn.

    Returns:
        ndarray: A new picture like ``image``.
    """
    found = found.keep(found.scores > score_thr)
    colours = class_colours(info)
    under = np.ascontiguousarray(image[..., ::-1])
    over = under.copy()
    if found.masks is not None:
        for i in reversed(range(len(found))):
            over[found.masks[i]] = colours[found.labels[i]]
    picture = Image.fromarray(over)
    pen = ImageDraw.Draw(picture)
    for i in reversed(range(len(found))):
        _draw_one(pen, found.bboxes[i], colours[found.labels[i]],
                  _caption(found, i, info))
    picture = Image.blend(Image.fromarray(under), picture, _OPACITY)
    return np.ascontiguousarray(np.asarray(picture)[..., ::-1])


def class_colours(info: ModelInfo) -> list[tuple[int, int, int]]:
    """RGB colours by label: the model's own, or else random ones.

    The random ones are the same every time.
    """
    if info.palette and len(info.palette) >= len(info.classes):
        return [tuple(colour) for colour in info.palette]
    random = np.random.RandomState(42).randint(0, 256, (len(info.classes), 3))
    return [tuple(colour) for colour in random.tolist()]


def _caption(found: Detections, i: int, info: ModelInfo) -> str:
    return f'{info.classes[found.labels[i]]}: {found.scores[i] * 100:.1f}'


def _draw_one(pen: ImageDraw.ImageDraw, box: np.ndarray, colour: tuple,
              caption: str) -> None:
    x1, y1, x2, y2 = (float(edge) for edge in box)
    pen.rectangle((x1, y1, x2, y2), outline=colour, width=_WIDTH)
    small = (x2 - x1) * (y2 - y1) < _SMALL_AREA
    font = _font(_FONT_SIZE // 2 if small else _FONT_SIZE)
    corner = (x1 + _WIDTH, y1 + _WIDTH)
    pen.rectangle(pen.textbbox(corner, caption, font), fill=_BEHIND_TEXT)
    pen.text(corner, caption, fill=_TEXT, font=font)


def _font(size: int):
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size
        return ImageFont.load_default()
