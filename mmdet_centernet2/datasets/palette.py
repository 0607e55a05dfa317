"""Colours that tell classes apart in drawings."""

from functools import lru_cache

import numpy as np

# After so many colours they repeat: nobody tells more of them apart.
_DISTINCT = 240
# Distance in CIELAB that a colour keeps to the ones just before it.
_NEIGHBOURS, _NEIGHBOUR_DISTANCE = 8, 30


def distinct_palette(num_classes: int) -> list[tuple[int, int, int]]:
    """Colours for classes, the same ones in every call.

    Each colour is the one farthest, in CIELAB, from all colours before it,
    so the first ones differ most. None is near black, white or grey, and
    each differs clearly from its eight predecessors. RGB in 0..255.
    """
    colours = _farthest_colours()
    return [colours[i % len(colours)] for i in range(num_classes)]


@lru_cache
def _farthest_colours() -> list[tuple[int, int, int]]:
    steps = np.arange(0, 256, 15)
    rgb = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    lab = _lab(rgb)
    chroma = np.linalg.norm(lab[:, 1:], axis=1)
    vivid = (lab[:, 0] > 40) & (lab[:, 0] < 88) & (chroma > 40)
    rgb, lab = rgb[vivid], lab[vivid]
    chosen = [int(np.abs(rgb - (255, 45, 45)).sum(1).argmin())]  # red
    distances = np.linalg.norm(lab - lab[chosen[0]], axis=1)[:, None]
    while len(chosen) < _DISTINCT:
        # The last ones are also neighbours of the first, when they repeat.
        left = _DISTINCT - len(chosen)
        near = distances[:, -_NEIGHBOURS:].min(1)
        if left < _NEIGHBOURS:
            near = np.minimum(near, distances[:, : _NEIGHBOURS - left].min(1))
        allowed = near >= _NEIGHBOUR_DISTANCE
        chosen.append(int(np.where(allowed, distances.min(1), -1).argmax()))
        new = np.linalg.norm(lab - lab[chosen[-1]], axis=1)
        distances = np.concatenate([distances, new[:, None]], axis=1)
    return [(int(r), int(g), int(b)) for r, g, b in rgb[chosen]]


def _lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB colours, (n, 3)."""
    srgb = rgb / 255
    linear = np.where(srgb > 0.04045, ((srgb + 0.055) / 1.055) ** 2.4, srgb / 12.92)
    xyz = (
        linear
        @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
        / (0.9505, 1, 1.089)
    )
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
