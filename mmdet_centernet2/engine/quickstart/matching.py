"""Which detections found an object: for pictures, not for metrics."""
from typing import Tuple

import numpy as np


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of every box of ``first`` (N, 4) with every of ``second`` (M, 4).

    Boxes are x1 y1 x2 y2 in the same units. Returns (N, M) in [0, 1].
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (high - low).clip(min=0).prod(axis=-1)
    area = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
            for boxes in (first, second)]
    union = area[0][:, None] + area[1][None] - common
    return common / np.maximum(union, 1e-9)


def match_detections(detected: np.ndarray,
                     scores: np.ndarray,
                     truth: np.ndarray,
                     iou_thr: float = 0.5) -> Tuple[np.ndarray, np.ndarray]:
    """Give each detection, best score first, the free object it fits best.

    Args:
        detected: (N, 4) x1 y1 x2 y2 in pixels.
        scores: (N, ) in [0, 1].
        truth: (M, 4) x1 y1 x2 y2 in pixels.
        iou_thr: Least IoU of a match.

    Returns:
        tuple: (N, ) bool, True for detections that found an object, and
        (M, ) bool, True for objects that were found.
    """
    hit = np.zeros(len(detected), dtype=bool)
    found = np.zeros(len(truth), dtype=bool)
    if not len(truth):
        return hit, found
    iou = pairwise_iou(detected, truth)
    for index in np.argsort(-scores, kind='stable'):
        free = np.where(found, -1.0, iou[index])
        best = int(free.argmax())
        if free[best] >= iou_thr:
            hit[index] = found[best] = True
    return hit, found
