"""LVIS metric."""

from __future__ import annotations

from collections.abc import Sequence
from reprlib import repr as short

import numpy as np
from mmdet.registry import METRICS
from mmengine.logging import print_log

from mmdet_centernet2.datasets.annotation_file import AnnotationError

from .coco_metric import CenterNet2CocoMetric, mean_of_known

FREQUENCIES = ('r', 'c', 'f')
#: Of an image: categories that are not in it, and those of which not all objects are labelled.
CATEGORY_LISTS = ('neg_category_ids', 'not_exhaustive_category_ids')


@METRICS.register_module()
class CenterNet2LVISMetric(CenterNet2CocoMetric):
    """mmdet's ``LVISMetric``, without the package ``lvis``.

    ``lvis`` 0.5.3 stops with an error from numpy 1.24 on. Here are the
    figures that it gave before: ``bbox_AP``, ``bbox_AP50``, ``bbox_AP75``,
    ``bbox_APs/m/l`` (area) and ``bbox_APr/c/f`` (frequency) in [0, 1], -1
    where there is no such object. They are not rounded, and at most 300
    detections of an image count, as in the official evaluation. Labels are
    ranks of category ids.

    Arguments are those of :class:`CenterNet2CocoMetric`; ``metric`` is 'bbox',
    'segm', 'proposal_fast' or a list of these.

    Raises:
        AnnotationError: If the annotation file is at fault, has no object to
            evaluate with, or not what LVIS evaluation needs.
        ValueError: If ``metric`` is 'proposal', which LVIS does not define.
    """

    default_prefix = 'lvis'
    FILE_KEY = 'coco_url'
    FEDERATED = True
    MAX_DETS = 300
    ITEMS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'APr', 'APc', 'APf')

    def __init__(self, ann_file: str | None = None, *args, **kwargs) -> None:
        if ann_file is None:
            raise ValueError(
                f'{type(self).__name__} needs ann_file, a file in LVIS format: '
                'which categories were looked for in an image is only there'
            )
        super().__init__(ann_file, *args, **kwargs)
        if 'proposal' in self.metrics:
            raise ValueError(
                "LVIS defines no metric='proposal', without classes; use 'proposal_fast'"
            )
        self._check_ann_file(ann_file)

    def _ids_of_labels(self) -> list:
        return sorted(category['id'] for category in self._coco_api.categories)

    def _evaluate(self, results: Sequence[dict], metric: str) -> dict[str, float]:
        precision, recall = self._curves(results, metric, [self.MAX_DETS])
        precision = precision[..., 0]
        frequency = {c['id']: c['frequency'] for c in self._coco_api.categories}
        frequencies = np.array([frequency[key] for key in self.cat_ids])
        values = (
            precision[..., 0],
            *(precision[np.isclose(self.iou_thrs, thr), ..., 0] for thr in (0.5, 0.75)),
            *np.moveaxis(precision, -1, 0)[1:],
            *(precision[:, :, frequencies == which, 0] for which in FREQUENCIES),
        )
        stats = {name: mean_of_known(value, -1) for name, value in zip(self.ITEMS, values)}
        listed = ', '.join(f'{name} {value:.4f}' for name, value in stats.items())
        found = mean_of_known(recall[..., 0, 0], -1)
        print_log(f'{metric}: {listed}, AR@{self.MAX_DETS} {found:.4f}', 'current')
        figures = {f'{metric}_{item}': stats[item] for item in self.metric_items or self.ITEMS}
        return {**self._classwise(precision), **figures}

    def _images(self) -> list[dict]:
        """With the labels that were looked for, or not all found, in each image."""
        label_of = {key: label for label, key in enumerate(self.cat_ids)}
        images = super()._images()
        for image, given in zip(images, self._coco_api.images):
            for key in CATEGORY_LISTS:
                image[key] = [label_of[i] for i in given[key] if i in label_of]
        return images

    def _check_ann_file(self, ann_file: str) -> None:
        """Find out before training, not after it, what is missing."""
        kinds = {type(category['id']) for category in self._coco_api.categories}
        for image in self._coco_api.images:
            for key in CATEGORY_LISTS:
                listed = image.get(key)
                if not isinstance(listed, list) or not kinds.issuperset(map(type, listed)):
                    raise AnnotationError(
                        f'{ann_file}: image {image["id"]!r} has no "{key}", a list of category '
                        f'ids, which LVIS evaluation needs (found {short(listed)}); use '
                        'CenterNet2CocoMetric for annotations in COCO format'
                    )
        for category in self._coco_api.categories:
            if category.get('frequency') not in FREQUENCIES:
                raise AnnotationError(
                    f'{ann_file}: category {category["id"]!r} has the frequency '
                    f'{short(category.get("frequency"))}, not one of {FREQUENCIES}'
                )
