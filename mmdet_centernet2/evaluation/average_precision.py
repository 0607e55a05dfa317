"""COCO's precision and recall from flat arrays, for COCO and LVIS.

The figures are those of pycocotools and lvis. Only detections that overlap an
object enough to be matched are visited, those of all images at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from pycocotools import mask as mask_utils
from rich.progress import track

RECALL_THRS = np.linspace(0, 1, 101)
#: Square pixels: all, small, medium, large.
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])

_Rows = TypeVar('_Rows', bound='_Instances')


@dataclass
class _Instances:
    """Objects or detections, one in a row.

    Args:
        images: Index of the image, (N,).
        labels: Index of the category, (N,).
        areas: Square pixels, (N,).
        shapes: Boxes (x, y, width, height) in pixels, (N, 4), or run-length
            masks, (N,).
    """

    images: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    shapes: np.ndarray

    def __getitem__(self: _Rows, rows: np.ndarray) -> _Rows:
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def pairs(self) -> np.ndarray:
        """A number for each pair of category and image, (N,)."""
        return (self.labels.astype(np.int64) << 32) + self.images

    def outside(self) -> np.ndarray:
        """Whether the area is outside of each range, (N, A)."""
        areas = self.areas[:, None]
        return (areas < AREA_RANGES[:, 0]) | (areas > AREA_RANGES[:, 1])


@dataclass
class Objects(_Instances):
    """Ground truth, one object in a row.

    Args:
        crowds: Whether any number of detections may be matched, (N,).
        ignored: Whether matched detections count neither way, (N,).
    """

    crowds: np.ndarray
    ignored: np.ndarray


@dataclass
class Detections(_Instances):
    """Detections, one in a row.

    Args:
        scores: Scores, (N,).
        lenient: Whether being unmatched is no error, (N,); of LVIS.
    """

    scores: np.ndarray
    lenient: np.ndarray


def precision_and_recall(
    objects: Objects,
    detections: Detections,
    num_labels: int,
    iou_thrs: np.ndarray,
    max_dets: list[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Precision at :data:`RECALL_THRS` (R,), and recall, of each category.

    Args:
        objects: The ground truth.
        detections: Equal scores rank in their order, then in that of images.
        num_labels: Number of categories, K.
        iou_thrs: IoU from which on a detection is right, (T,).
        max_dets: How many detections of an image and category count, (M,),
            in ascending order.

    Returns:
        Precision (T, R, K, A, M) and recall (T, K, A, M) as pycocotools has
        them for the A :data:`AREA_RANGES`; -1 where there is no object.
    """
    objects = objects[np.argsort(objects.pairs, kind='stable')]
    detections = detections[np.lexsort((-detections.scores, detections.pairs))]
    ranks = rank_in_group(detections.pairs)
    kept = ranks < max_dets[-1]
    detections, ranks = detections[kept], ranks[kept]
    ignored = objects.ignored[:, None] | objects.outside()
    wrong = ~(detections.lenient[:, None] | detections.outside())
    rows, hits, misses = _match(objects, detections, ignored, np.asarray(iou_thrs))

    precision = np.full((len(iou_thrs), 101, num_labels, len(AREA_RANGES), len(max_dets)), -1.0)
    recall = np.full((len(iou_thrs), num_labels, len(AREA_RANGES), len(max_dets)), -1.0)
    limits = np.minimum(max_dets, ranks.max(initial=0) + 1)
    best_first = np.lexsort((-detections.scores, detections.labels))
    bounds = np.searchsorted(detections.labels, np.arange(num_labels + 1))
    for label in track(range(num_labels), 'evaluating', disable=num_labels < 2):
        total = (~ignored[objects.labels == label]).sum(0)
        for limit in np.unique(limits):
            index = best_first[bounds[label] : bounds[label + 1]]
            index = index[ranks[index] < limit]
            for area in np.flatnonzero(total):
                true = hits[rows[index], :, area]
                false = misses[rows[index], :, area] & wrong[index, None, area]
                place = np.s_[:, label, area, limits == limit]
                found = _curves(true.T, false.T, total[area])
                recall[place] = found[0][:, None]
                precision[:, :, label, area, limits == limit] = found[1][..., None]
    return precision, recall


def rank_in_group(groups: np.ndarray) -> np.ndarray:
    """Position of each row in its run of equal numbers, (N,)."""
    starts = np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))


def _overlaps(objects: Objects, detections: Detections, lowest: float) -> tuple:
    """IoUs of at least ``lowest`` within an image and category, (E,) each.

    Returns:
        Rows of the detections, rows of the objects, and the IoUs.
    """
    pairs = np.intersect1d(objects.pairs, detections.pairs)
    bounds = [
        np.searchsorted(side.pairs, pairs, where)
        for side in (detections, objects)
        for where in ('left', 'right')
    ]
    edges = [(np.empty(0, int), np.empty(0, int), np.empty(0))]
    for first, last, start, stop in zip(*(bound.tolist() for bound in bounds)):
        shapes = detections.shapes[first:last], objects.shapes[start:stop]
        if shapes[0].ndim == 1:
            shapes = tuple(side.tolist() for side in shapes)
        ious = mask_utils.iou(*shapes, objects.crowds[start:stop].astype(np.uint8))
        found, of = np.nonzero(ious >= lowest)
        edges.append((found + first, of + start, ious[found, of]))
    return tuple(np.concatenate(column) for column in zip(*edges))


def _match(
    objects: Objects, detections: Detections, ignored: np.ndarray, iou_thrs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match detections with objects, the best detection of a pair first.

    Returns:
        For each detection its row in the other two, (D,); whether it is
        matched with an object that counts, and whether it is unmatched,
        (rows, T, A).
    """
    iou_thrs = np.minimum(iou_thrs, 1 - 1e-10)
    found, of, ious = _overlaps(objects, detections, iou_thrs.min())
    candidates, index = np.unique(found, return_inverse=True)
    rounds = rank_in_group(detections.pairs[candidates])[index]
    order = np.lexsort((of, ious, found, rounds))
    of, ious, index, rounds = of[order], ious[order], index[order], rounds[order]

    shape = len(iou_thrs), ignored.shape[1]
    taken = np.zeros((len(objects.images), *shape), bool)
    # the last row is that of all detections that overlap with nothing
    hits = np.zeros((len(candidates) + 1, *shape), bool)
    misses = np.ones_like(hits)
    ends = np.searchsorted(rounds, np.arange(rounds.max(initial=-1) + 2))
    for start, stop in zip(ends, ends[1:]):
        # one detection of each pair: none competes with another
        part = np.s_[start:stop]
        target, size = of[part], stop - start
        free = ~taken[target] | objects.crowds[target, None, None]
        free &= (ious[part, None] >= iou_thrs)[..., None]
        # The highest IoU wins, the later object of equals; what is ignored
        # is taken only if nothing else is left.
        value = np.arange(size)[:, None] + size * ~ignored[target]
        value = np.where(free, value[:, None], -1)
        first = np.flatnonzero(np.diff(index[part], prepend=-1))
        best = np.maximum.reduceat(value, first)
        row = index[part][first]
        hits[row], misses[row] = best >= size, best < 0
        detection, thr, area = np.nonzero(best >= 0)
        taken[target[best[detection, thr, area] % size], thr, area] = True
    rows = np.full(len(detections.images), len(candidates))
    rows[candidates] = np.arange(len(candidates))
    return rows, hits, misses


def _curves(true: np.ndarray, false: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Recall (T,) and precision (T, R) of detections (T, N), best first."""
    precision = np.zeros((len(true), len(RECALL_THRS)))
    recall = np.zeros(len(true))
    if not true.size:
        return recall, precision
    tps, fps = true.cumsum(1), false.cumsum(1)
    highest = tps / (fps + tps + np.spacing(1))
    highest = np.maximum.accumulate(highest[:, ::-1], 1)[:, ::-1]
    recalls = tps / total
    for row, values in enumerate(highest):
        places = np.searchsorted(recalls[row], RECALL_THRS)
        precision[row] = np.append(values, 0)[places]
    return recalls[:, -1], precision
