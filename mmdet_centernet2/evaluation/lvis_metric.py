"""LVIS metric."""

from __future__ import annotations

from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import METRICS

from .coco_metric import CenterNet2CocoMetric

FREQUENCIES = ('r', 'c', 'f')


@METRICS.register_module()
class CenterNet2LVISMetric(CenterNet2CocoMetric):
    """mmdet's ``LVISMetric`` with the published ``lvis`` on any numpy.

    ``lvis`` 0.5.3 stops with an error from numpy 1.24 on. Here it gives the
    figures that it gave before: ``bbox_AP``, ``bbox_AP50``, ``bbox_AP75``,
    ``bbox_APs/m/l`` (area) and ``bbox_APr/c/f`` (frequency) in [0, 1], -1
    where there is no such object. They are not rounded, and at most 300
    detections of an image count, as in the official evaluation.

    Args:
        ann_file: Annotations in LVIS format.
        *args: See :class:`CenterNet2CocoMetric`.
        **kwargs: See there. ``metric`` is 'bbox', 'segm', 'proposal_fast' or
            a list of these.

    Raises:
        AnnotationError: If the annotation file is at fault, or has no object
            to evaluate with.
        ValueError: If the file has not got what LVIS evaluation needs, or
            ``metric`` is 'proposal', which ``lvis`` cannot compute, or the
            backend is unknown.
        ImportError: If lvis or the backend's package is not installed.
    """

    default_prefix = 'lvis'
    ITEMS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'APr', 'APc', 'APf')

    def __init__(self, ann_file: str | None = None, *args, **kwargs) -> None:
        super().__init__(ann_file, *args, **kwargs)
        if ann_file is None:
            raise ValueError(
                f'{type(self).__name__} needs ann_file, a file in LVIS format:'
                ' which categories were looked for in an image is only there'
            )
        if 'proposal' in self.metrics:
            raise ValueError(
                "metric='proposal' needs evaluation without "
                'categories, which lvis 0.5.3 cannot do; use '
                "'proposal_fast'"
            )
        self._check_ann_file(ann_file)

    def _read(self, path: str, **kwargs) -> COCO:
        from .lvis_eval import CheckedLVIS  # needs lvis

        return CheckedLVIS(path, file_key='coco_url', **kwargs)

    def _ids_of_labels(self) -> list:
        return self._coco_api.get_cat_ids()

    def _evaluate(self, detections: list[dict], metric: str) -> dict[str, float]:
        from .lvis_eval import FasterLVISEval, SparseLVISEval, load_results

        evaluation = FasterLVISEval if self.backend == 'faster_coco_eval' else SparseLVISEval
        done = evaluation(self._coco_api, load_results(self._coco_api, detections), metric)
        done.run()
        done.print_results()
        figures = self._classwise(done.eval['precision'])
        for item in self.metric_items or self.ITEMS:
            figures[f'{metric}_{item}'] = float(done.results[item])
        return figures

    def _check_ann_file(self, ann_file: str) -> None:
        """Find out before training, not after it, what is missing."""
        for image in self._coco_api.dataset['images']:
            for key in ('neg_category_ids', 'not_exhaustive_category_ids'):
                if key not in image:
                    raise ValueError(
                        f'{ann_file}: image {image["id"]} has no "{key}", '
                        'which LVIS evaluation needs; use CocoMetric for '
                        'annotations in COCO format'
                    )
        ids = self._coco_api.get_cat_ids()
        if ids != sorted(ids):
            raise ValueError(
                f'{ann_file}: "categories" are not sorted by '
                '"id", but labels are numbered in their order'
            )
        for category in self._coco_api.dataset['categories']:
            if category.get('frequency') not in FREQUENCIES:
                raise ValueError(
                    f'{ann_file}: category {category["id"]} has the frequency '
                    f'{category.get("frequency")!r}, not one of {FREQUENCIES}'
                )
