"""Colours that tell classes apart in drawings."""

from functools import lru_cache

import cv2
import numpy as np

_DISTINCT = 1500  # then they repeat
# Distance in CIELAB that a colour keeps to the ones just before it.
_NEIGHBOURS, _NEIGHBOUR_DISTANCE = 8, 30


def distinct_palette(num_classes: int) -> list[tuple[int, int, int]]:
    """Colours for classes, the same ones in every call.

    Each colour is the one farthest, in CIELAB, from all colours before it,
    so the first ones differ most. None is near black, white or grey, and
    each differs clearly from its eight predecessors. RGB in 0..255.
    """
    colours = _farthest_colours(min(num_classes, _DISTINCT))
    return [colours[i % _DISTINCT] for i in range(num_classes)]


@lru_cache
def _farthest_colours(num: int) -> list[tuple[int, int, int]]:
    steps = np.arange(0, 256, 15, dtype=np.float32)
    rgb = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    lab = cv2.cvtColor(rgb[None] / 255, cv2.COLOR_RGB2LAB)[0]
    chroma = np.linalg.norm(lab[:, 1:], axis=1)
    vivid = (lab[:, 0] > 40) & (lab[:, 0] < 88) & (chroma > 40)
    rgb, lab = rgb[vivid], lab[vivid]
    chosen = [int(np.abs(rgb - (255, 45, 45)).sum(1).argmin())]  # red
    distances: list[np.ndarray] = []
    nearest = np.full(len(rgb), np.inf)
    while len(chosen) < num:
        distances.append(np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        nearest = np.minimum(nearest, distances[-1])
        allowed = np.min(distances[-_NEIGHBOURS:], axis=0) >= _NEIGHBOUR_DISTANCE
        chosen.append(int(np.where(allowed, nearest, -1).argmax()))
    return [(int(r), int(g), int(b)) for r, g, b in rgb[chosen]]
