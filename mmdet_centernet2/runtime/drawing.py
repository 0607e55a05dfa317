"""Boxes, masks and names on a picture, in the manner of mmdet's."""

from __future__ import annotations

from colorsys import hsv_to_rgb

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .detections import Detections
from .model_info import ModelInfo

_WIDTH = 3  # of lines, in pixels
_OPACITY = 0.8
_TEXT, _BEHIND_TEXT = (200, 200, 200), (0, 0, 0)
# Names on boxes of less than 30000 square pixels are half as large.
_FONT_SIZE, _SMALL_AREA = 18, 30000


def draw(
    image: np.ndarray, found: Detections, info: ModelInfo, score_thr: float = 0.3
) -> np.ndarray:
    """Draw detections above ``score_thr`` on a copy of an image (h, w, 3), BGR, the best on top."""
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
        pen.rectangle(found.bboxes[i].tolist(), outline=colours[found.labels[i]], width=_WIDTH)
    captions = [
        f'{info.classes[label]}: {score * 100:.1f}'
        for label, score in zip(found.labels, found.scores)
    ]
    fonts = [_font(box) for box in found.bboxes]
    places = _places(
        [pen.textbbox((0, 0), *each) for each in zip(captions, fonts)], found.bboxes, picture.size
    )
    for i in reversed(range(len(found))):
        pen.rectangle(places[i].tolist(), fill=_BEHIND_TEXT)
        pen.text(places[i, :2], captions[i], fill=_TEXT, font=fonts[i])
    picture = Image.blend(Image.fromarray(under), picture, _OPACITY)
    return np.ascontiguousarray(np.asarray(picture)[..., ::-1])


def class_colours(info: ModelInfo) -> list[tuple[int, int, int]]:
    """RGB colours by label: the model's own, or else fixed ones that differ."""
    if info.palette:
        return [tuple(colour) for colour in info.palette]
    # Hues a golden section apart: neighbours are never alike.
    colours = (
        hsv_to_rgb(i * 0.618034 % 1, 1 - i % 3 * 0.25, 1 - i % 2 * 0.3)
        for i in range(len(info.classes))
    )
    return [tuple(round(255 * part) for part in each) for each in colours]


def _font(box: np.ndarray):
    small = (box[2] - box[0]) * (box[3] - box[1]) < _SMALL_AREA
    try:
        return ImageFont.load_default(_FONT_SIZE // 2 if small else _FONT_SIZE)
    except TypeError:  # Pillow before 10.1 has one size only
        return ImageFont.load_default()


def _places(texts: list[tuple], boxes: np.ndarray, image: tuple[int, int]) -> np.ndarray:
    """Boxes (n, 4) of captions above, below, right or left of theirs, where they cover least."""
    taken = np.asarray(boxes, float)
    for text, (x1, y1, x2, y2) in zip(texts, boxes):
        size = np.array(text[2:])
        corners = np.array(
            [(x1, y1 - size[1] - 2), (x1, y2 + 2), (x2 + 2, y1), (x1 - size[0] - 2, y1)]
        )
        corners = corners.clip(0, np.maximum(image - size, 0))
        places = np.hstack([corners, corners + size])
        common = np.minimum(places[:, None, 2:], taken[:, 2:]) - np.maximum(
            places[:, None, :2], taken[:, :2]
        )
        # A small object is hidden by what a large one does not notice.
        areas = (taken[:, 2:] - taken[:, :2]).prod(1).clip(1)
        hidden = (common.clip(0).prod(2) / areas).sum(1)
        taken = np.vstack([taken, places[hidden.argmin()]])
    return taken[len(boxes) :]
