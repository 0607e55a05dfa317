"""Matching and accumulating with faster-coco-eval, for COCO and LVIS.

The original packages still decide what is evaluated (which detections count,
what is ignored) and make the figures of the result. In between, where nearly
all of the time goes, the compiled package compares detections with objects.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.progress import track

BACKENDS = ('pycocotools', 'faster_coco_eval')
#: Keys of annotations and detections that count.
_KEYS = ('id', 'image_id', 'bbox', 'area', 'score')

#: Annotations or detections by image id and category id.
ByPair = Mapping[tuple[int, int], list[dict]]


class MatchParams(NamedTuple):
    """What to compare by, in the names of pycocotools.

    Attributes:
        iou_type: 'bbox' or 'segm'.
        iou_thrs: IoU thresholds, shape (T,).
        rec_thrs: Recall thresholds, shape (R,).
        area_rng: Smallest and largest area in square pixels of
            each range, shape (A, 2).
        max_dets: Most detections of a category in an image
            that count, ascending, shape (M,).
    """
    iou_type: str
    iou_thrs: np.ndarray
    rec_thrs: np.ndarray
    area_rng: Sequence[Sequence[float]]
    max_dets: Sequence[int]


def check_backend(backend: str) -> None:
    """Find out before training, not after it, whether evaluation can run.

    Args:
        backend: One of :data:`BACKENDS`.

    Raises:
        ValueError: If it is not.
        ImportError: If its package is not installed.
    """
    if backend not in BACKENDS:
        raise ValueError(f'backend must be one of {BACKENDS}, got {backend!r}')
    if backend == 'faster_coco_eval':
        _package()


def match_and_accumulate(
        objects: ByPair,
        detections: ByPair,
        cat_ids: Sequence[int],
        params: MatchParams,
        not_exhaustive: Mapping[int, Sequence[int]] | None = None
) -> dict[str, np.ndarray]:
    """Precision and recall of all categories.

    Args:
        objects: Annotations with ``id`` (from 1), ``image_id``,
            ``category_id``, ``bbox``, ``area``, ``iscrowd`` and, for 'segm',
            ``segmentation`` as run lengths.
        detections: The same with ``score``, no ``iscrowd``.
        cat_ids: Ids of the K categories, in this order.
        params: What to compare by.
        not_exhaustive: Of LVIS: by image id, the categories in which a
            detection without an object is no error.

    Returns:
        ``precision`` (T, R, K, A, M) and ``recall`` (T, K, A, M) as
        pycocotools has them; -1 where there is no object.
    """
    images = {cat: [] for cat in cat_ids}
    for image, cat in sorted({*objects, *detections}):
        if cat in images:
            images[cat].append(image)
    found = [
        _evaluate(cat, images[cat], objects, detections, params,
                  not_exhaustive) for cat in track(
                      cat_ids, 'evaluating', disable=len(cat_ids) < 2)
    ]
    return dict(
        precision=np.concatenate([f['precision'] for f in found], axis=2),
        recall=np.concatenate([f['recall'] for f in found], axis=1))


def _package() -> Any:
    try:
        import faster_coco_eval
    except ImportError as error:
        raise ImportError(
            "backend='faster_coco_eval' needs the package faster-coco-eval: "
            "pip install 'mmdet_centernet2[eval]' (or pip install "
            'faster-coco-eval), or leave the backend at "pycocotools"'
        ) from error
    return faster_coco_eval


def _evaluate(category: int, images: Sequence[int], objects: ByPair,
              detections: ByPair, params: MatchParams,
              not_exhaustive: Mapping | None) -> dict[str, np.ndarray]:
    """Evaluate one category, in the images that have something of it.

    The package visits every pair of the images and categories that it is
    given, and keeps a list for it; like this none of them is empty.
    """
    package = _package()
    entries = [
        _image(image, category, (*objects.get((image, category), ()),
                                 *detections.get((image, category), ())),
               not_exhaustive) for image in images
    ]
    # 'f' is of no importance: the original makes the groups
    categories = [dict(id=category, frequency='f')]

    def side(by_pair: ByPair):
        annotations = [
            _copy(ann, category, params.iou_type == 'segm')
            for image in images for ann in by_pair.get((image, category), ())
        ]
        return package.COCO(
            dict(
                images=entries, annotations=annotations,
                categories=categories))

    evaluation = package.COCOeval_faster(
        side(objects),
        side(detections),
        params.iou_type,
        lvis_style=not_exhaustive is not None,
        print_function=lambda *args: None)
    evaluation.params.iouThrs = np.asarray(params.iou_thrs, dtype=float)
    evaluation.params.recThrs = np.asarray(params.rec_thrs, dtype=float)
    evaluation.params.areaRng = [list(rng) for rng in params.area_rng]
    evaluation.params.areaRngLbl = [str(rng) for rng in params.area_rng]
    evaluation.params.maxDets = list(params.max_dets)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval


def _image(image: int, category: int, annotations: Sequence[dict],
           not_exhaustive: Mapping | None) -> dict:
    """Entry of an image of which only one category is looked at."""
    # what was not looked for has been left out before
    entry = dict(
        id=image, height=0, width=0, neg_category_ids=[category])
    if not_exhaustive is not None:
        entry['not_exhaustive_category_ids'] = not_exhaustive[image]
    if annotations and isinstance(annotations[0].get('segmentation'), dict):
        entry['height'], entry['width'] = annotations[0]['segmentation'][
            'size']
    return entry


def _copy(ann: dict, category_id: int, segm: bool) -> dict:
    """An entry of our own: the package writes into what it is given."""
    entry = {key: ann[key] for key in _KEYS if key in ann}
    entry.update(
        category_id=category_id, iscrowd=int(bool(ann.get('iscrowd', 0))))
    if segm:
        entry['segmentation'] = ann['segmentation']
    return entry
