"""Matching and accumulating with faster-coco-eval, for COCO and LVIS.

The original packages still decide what is evaluated (which detections count,
what is ignored) and make the figures of the result. In between, where nearly
all of the time goes, the compiled package compares detections with objects.
"""
from __future__ import annotations

from typing import (Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence,
                    Tuple)

import numpy as np
from rich.progress import track

BACKENDS = ('pycocotools', 'faster_coco_eval')
#: Pairs of an image and a category that are evaluated at once at most. The
#: package keeps a list for each of them, empty or not.
MAX_PAIRS = 1_000_000
#: Keys of annotations and detections that count.
_KEYS = ('id', 'image_id', 'bbox', 'area', 'score')

#: Annotations or detections by image id and category id.
ByPair = Mapping[Tuple[int, int], List[dict]]


class MatchParams(NamedTuple):
    """What to compare by, in the names of pycocotools.

    Attributes:
        iou_type (str): 'bbox' or 'segm'.
        iou_thrs (np.ndarray): IoU thresholds, shape (T,).
        rec_thrs (np.ndarray): Recall thresholds, shape (R,).
        area_rng (Sequence): Smallest and largest area in square pixels of
            each range, shape (A, 2).
        max_dets (Sequence[int]): Most detections of a category in an image
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
        backend (str): One of :data:`BACKENDS`.

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
) -> Dict[str, np.ndarray]:
    """Precision and recall of all categories.

    Args:
        objects (ByPair): Annotations with ``id`` (from 1), ``image_id``,
            ``category_id``, ``bbox``, ``area``, ``iscrowd`` and, for 'segm',
            ``segmentation`` as run lengths.
        detections (ByPair): The same with ``score``, no ``iscrowd``.
        cat_ids (Sequence[int]): Ids of the K categories, in this order.
        params (MatchParams): What to compare by.
        not_exhaustive (Mapping[int, Sequence[int]], optional): Of LVIS: by
            image id, the categories in which a detection without an object
            is no error.

    Returns:
        dict[str, np.ndarray]: ``precision`` (T, R, K, A, M) and ``recall``
        (T, K, A, M) as pycocotools has them; -1 where there is no object.
    """
    blocks = list(_blocks(objects, detections, cat_ids))
    found = [
        _evaluate_block(block, objects, detections, params, not_exhaustive)
        for block in track(blocks, 'evaluating', disable=len(blocks) < 2)
    ]
    return dict(
        precision=np.concatenate([f['precision'] for f in found], axis=2),
        recall=np.concatenate([f['recall'] for f in found], axis=1))


class _Block(NamedTuple):
    """Some categories, and the pairs with an object or a detection."""
    cat_ids: Sequence[int]
    pairs: Sequence[Tuple[int, int]]


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


def _blocks(objects: ByPair, detections: ByPair,
            cat_ids: Sequence[int]) -> Iterator[_Block]:
    """Split the categories, so that an empty pair costs next to nothing."""
    by_category = {cat: [] for cat in cat_ids}
    for image, cat in {*objects, *detections}:
        if objects.get((image, cat)) or detections.get((image, cat)):
            by_category[cat].append((image, cat))
    num_images = len({img for pairs in by_category.values()
                      for img, _ in pairs})
    size = max(MAX_PAIRS // max(num_images, 1), 1)
    for start in range(0, len(cat_ids), size):
        chosen = cat_ids[start:start + size]
        yield _Block(chosen, sorted(p for c in chosen for p in by_category[c]))


def _evaluate_block(block: _Block, objects: ByPair, detections: ByPair,
                    params: MatchParams,
                    not_exhaustive: Mapping | None) -> Dict[str, np.ndarray]:
    package = _package()
    images = _images(block, objects, detections, not_exhaustive)
    segm = params.iou_type == 'segm'

    def side(by_pair: ByPair):
        annotations = [
            _copy(ann, cat, segm) for image, cat in block.pairs
            for ann in by_pair.get((image, cat), ())
        ]
        # 'f' is of no importance: the original makes the groups
        categories = [dict(id=c, frequency='f') for c in block.cat_ids]
        return package.COCO(
            dict(
                images=images, annotations=annotations, categories=categories))

    evaluation = package.COCOeval_faster(
        side(objects),
        side(detections),
        params.iou_type,
        lvis_style=not_exhaustive is not None,
        print_function=_say_nothing)
    evaluation.params.iouThrs = np.asarray(params.iou_thrs, dtype=float)
    evaluation.params.recThrs = np.asarray(params.rec_thrs, dtype=float)
    evaluation.params.areaRng = [list(rng) for rng in params.area_rng]
    evaluation.params.areaRngLbl = [str(rng) for rng in params.area_rng]
    evaluation.params.maxDets = list(params.max_dets)
    evaluation.params.catIds = list(block.cat_ids)
    evaluation.params.imgIds = [image['id'] for image in images]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval


def _images(block: _Block, objects: ByPair, detections: ByPair,
            not_exhaustive: Mapping | None) -> List[dict]:
    """Entries of the images of a block, sorted by id as in pycocotools."""
    entries = {}
    for image, cat in block.pairs:
        entry = entries.setdefault(
            image, dict(id=image, height=0, width=0, neg_category_ids=[]))
        # what was not looked for has been left out before
        entry['neg_category_ids'].append(cat)
        if not_exhaustive is not None:
            entry['not_exhaustive_category_ids'] = not_exhaustive[image]
        for ann in (*objects.get((image, cat), ())[:1],
                    *detections.get((image, cat), ())[:1]):
            if isinstance(ann.get('segmentation'), dict):
                entry['height'], entry['width'] = ann['segmentation']['size']
    return list(entries.values())


def _copy(ann: dict, category_id: int, segm: bool) -> dict:
    """An entry of our own: the package writes into what it is given."""
    entry = {key: ann[key] for key in _KEYS if key in ann}
    entry.update(
        category_id=category_id, iscrowd=int(bool(ann.get('iscrowd', 0))))
    if segm:
        entry['segmentation'] = ann['segmentation']
    return entry


def _say_nothing(*args) -> None:
    """For what the package prints; the original's summary says it all."""
