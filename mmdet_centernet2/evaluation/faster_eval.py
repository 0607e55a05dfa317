"""Matching and accumulating with faster-coco-eval, for COCO and LVIS.

The original packages still decide what is evaluated (which detections count,
what is ignored) and make the figures of the result. In between, where nearly
all of the time goes, the compiled package compares detections with objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.progress import track

BACKENDS = ('pycocotools', 'faster_coco_eval')
#: Keys of annotations and detections that count.
_KEYS = ('id', 'image_id', 'bbox', 'area', 'score')

#: Annotations or detections by image id and category id.
ByPair = Mapping[tuple[int, int], list[dict]]


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
    iou_type: str,
    params: Mapping[str, Any],
    not_exhaustive: Mapping[int, Sequence[int]] | None = None,
) -> dict[str, np.ndarray]:
    """Precision and recall of all categories.

    Args:
        objects: Annotations with ``id`` (from 1), ``image_id``,
            ``category_id``, ``bbox``, ``area``, ``iscrowd`` and, for 'segm',
            ``segmentation`` as run lengths.
        detections: The same with ``score``, no ``iscrowd``.
        cat_ids: Ids of the K categories, in this order.
        iou_type: 'bbox' or 'segm'.
        params: pycocotools' ``iouThrs`` (T,), ``recThrs`` (R,), ``areaRng``
            (A, 2) and ``maxDets`` (M,).
        not_exhaustive: Of LVIS: by image id, the categories in which a
            detection without an object is no error.

    Returns:
        ``precision`` (T, R, K, A, M) and ``recall`` (T, K, A, M) as
        pycocotools has them; -1 where there is no object.
    """
    images: dict[int, list[int]] = {cat: [] for cat in cat_ids}
    for image, cat in sorted({*objects, *detections}):
        if cat in images:
            images[cat].append(image)
    found = [
        _evaluate(cat, images[cat], objects, detections, iou_type, params, not_exhaustive)
        for cat in track(cat_ids, 'evaluating', disable=len(cat_ids) < 2)
    ]
    return dict(
        precision=np.concatenate([f['precision'] for f in found], axis=2),
        recall=np.concatenate([f['recall'] for f in found], axis=1),
    )


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


def _evaluate(
    category: int,
    images: Sequence[int],
    objects: ByPair,
    detections: ByPair,
    iou_type: str,
    params: Mapping[str, Any],
    not_exhaustive: Mapping | None,
) -> dict[str, np.ndarray]:
    """Evaluate one category, in the images that have something of it.

    The package visits every pair of the images and categories that it is
    given, and keeps a list for it; like this none of them is empty.
    """
    package = _package()
    entries = {}
    for image in images:
        # what was not looked for has been left out before
        entries[image] = dict(id=image, height=0, width=0, neg_category_ids=[category])
        if not_exhaustive is not None:
            entries[image]['not_exhaustive_category_ids'] = not_exhaustive[image]

    def side(by_pair: ByPair) -> list[dict]:
        """Entries of our own: the package writes into what it is given."""
        annotations = []
        for image in images:
            for ann in by_pair.get((image, category), ()):
                entry = {key: ann[key] for key in _KEYS if key in ann}
                entry.update(category_id=category, iscrowd=int(bool(ann.get('iscrowd', 0))))
                if iou_type == 'segm':
                    entry['segmentation'] = mask = ann['segmentation']
                    height, width = mask['size']
                    entries[image].update(height=height, width=width)
                annotations.append(entry)
        return annotations

    sides = [side(objects), side(detections)]
    # 'f' is of no importance: the original makes the groups
    categories = [dict(id=category, frequency='f')]
    evaluation = package.COCOeval_faster(
        *(
            package.COCO(
                dict(images=list(entries.values()), annotations=annotations, categories=categories)
            )
            for annotations in sides
        ),
        iou_type,
        lvis_style=not_exhaustive is not None,
        print_function=lambda *args: None,
    )
    for name, value in params.items():
        setattr(evaluation.params, name, value)
    evaluation.params.areaRngLbl = [str(rng) for rng in params['areaRng']]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval
