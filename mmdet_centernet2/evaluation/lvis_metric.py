"""LVIS metric."""
from __future__ import annotations

from typing import Dict

from mmdet.evaluation import LVISMetric, eval_recalls
from mmdet.registry import METRICS
from mmengine.fileio import get_local_path

from mmdet_centernet2.datasets.annotation_file import (AnnotationError,
                                                       has_objects)

from .faster_eval import check_backend
from .old_numpy import OldNumpy, with_names
from .results_file import results2json

FREQUENCIES = ('r', 'c', 'f')


@METRICS.register_module()
class CenterNet2LVISMetric(LVISMetric):
    """mmdet's ``LVISMetric`` with the published ``lvis`` on any numpy.

    ``lvis`` 0.5.3 stops with an error from numpy 1.24 on. Here it gives the
    figures that it gave before; see :class:`SparseLVISEval`. They are not
    rounded to three digits, and at most 300 detections of an image count, as
    in the official evaluation.

    Args:
        ann_file (str): Annotations in LVIS format.
        *args: See mmdet's ``LVISMetric``.
        backend (str): 'pycocotools' (with ``lvis``), or 'faster_coco_eval',
            which gives the same figures in a fraction of the time. Defaults
            to 'pycocotools'.
        bad_boxes (str): What to do with boxes that cannot be right, 'error'
            or 'drop'; as in the data set. Defaults to 'error'.
        **kwargs: See there. ``metric`` is 'bbox', 'segm', 'proposal_fast' or
            a list of these.

    Raises:
        AnnotationError: If the annotation file is at fault, or has no object
            to evaluate with.
        ValueError: If the file has not got what LVIS evaluation needs, or
            ``metric`` is 'proposal', which ``lvis`` cannot compute, or the
            backend is unknown.
        ImportError: If the backend's package is not installed.
    """

    results2json = results2json
    fast_eval_recall = with_names(
        LVISMetric.fast_eval_recall,
        eval_recalls=with_names(eval_recalls, np=OldNumpy()))

    def __init__(self,
                 ann_file: str | None = None,
                 *args,
                 backend: str = 'pycocotools',
                 bad_boxes: str = 'error',
                 **kwargs) -> None:
        check_backend(backend)
        self.backend = backend
        if ann_file is None:
            raise ValueError(
                f'{type(self).__name__} needs ann_file, a file in LVIS format:'
                ' which categories were looked for in an image is only there')
        super().__init__(None, *args, **kwargs)
        if 'proposal' in self.metrics:
            raise ValueError("metric='proposal' needs evaluation without "
                             'categories, which lvis 0.5.3 cannot do; use '
                             "'proposal_fast'")
        from .lvis_eval import CheckedLVIS  # needs lvis
        with get_local_path(
                ann_file, backend_args=self.backend_args) as path:
            self._lvis_api = CheckedLVIS(
                path,
                name=ann_file,
                bad_boxes=bad_boxes,
                masks='segm' in self.metrics,
                file_key='coco_url',
                config_key='the evaluator')
        self._check_ann_file(ann_file)

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """Evaluate all detections.

        Args:
            results (list): What ``process`` collected.

        Returns:
            dict[str, float]: ``bbox_AP``, ``bbox_AP50``, ``bbox_AP75``,
            ``bbox_APs/m/l`` (area) and ``bbox_APr/c/f`` (frequency), in [0,
            1], -1 where there is no such object.
        """
        from .lvis_eval import FasterLVISEval, SparseLVISEval  # need lvis
        make = (
            FasterLVISEval
            if self.backend == 'faster_coco_eval' else SparseLVISEval)
        evaluations = {}

        def evaluation(lvis_gt, lvis_dt, iou_type):
            evaluations[iou_type] = make(lvis_gt, lvis_dt, iou_type)
            return evaluations[iou_type]

        compute = with_names(LVISMetric.compute_metrics, LVISEval=evaluation)
        metrics = compute(self, results)
        for iou_type, done in evaluations.items():
            for name, value in done.get_results().items():
                if f'{iou_type}_{name}' in metrics:
                    metrics[f'{iou_type}_{name}'] = float(value)
        return metrics

    def _check_ann_file(self, ann_file: str) -> None:
        """Find out before training, not after it, what is missing."""
        if not self.format_only and not has_objects(self._lvis_api.dataset):
            raise AnnotationError(f'{ann_file}: no object to evaluate with')
        for image in self._lvis_api.dataset['images']:
            for key in ('neg_category_ids', 'not_exhaustive_category_ids'):
                if key not in image:
                    raise ValueError(
                        f'{ann_file}: image {image["id"]} has no "{key}", '
                        'which LVIS evaluation needs; use CocoMetric for '
                        'annotations in COCO format')
        ids = self._lvis_api.get_cat_ids()
        if ids != sorted(ids):
            raise ValueError(f'{ann_file}: "categories" are not sorted by '
                             '"id", but labels are numbered in their order')
        for category in self._lvis_api.dataset['categories']:
            if category.get('frequency') not in FREQUENCIES:
                raise ValueError(
                    f'{ann_file}: category {category["id"]} has the frequency '
                    f'{category.get("frequency")!r}, not one of {FREQUENCIES}')
