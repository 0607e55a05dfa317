"""LVIS metric."""
from typing import Dict, Optional

from mmdet.evaluation import LVISMetric, eval_recalls
from mmdet.registry import METRICS

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
        **kwargs: See there. ``metric`` is 'bbox', 'segm', 'proposal_fast' or
            a list of these.

    Raises:
        ValueError: If the file has not got what LVIS evaluation needs, or
            ``metric`` is 'proposal', which ``lvis`` cannot compute, or the
            backend is unknown.
        ImportError: If the backend's package is not installed.

    Source: spec §1.4, §6.6 (evaluator 'lvis').
    """

    results2json = results2json
    fast_eval_recall = with_names(
        LVISMetric.fast_eval_recall,
        eval_recalls=with_names(eval_recalls, np=OldNumpy()))

    def __init__(self,
                 ann_file: Optional[str] = None,
                 *args,
                 backend: str = 'pycocotools',
                 **kwargs) -> None:
        check_backend(backend)
        self.backend = backend
        if ann_file is None:
            raise ValueError(
                f'{type(self).__name__} needs ann_file, a file in LVIS format:'
                ' which categories were looked for in an image is only there')
        super().__init__(ann_file, *args, **kwargs)
        if 'proposal' in self.metrics:
            raise ValueError("metric='proposal' needs evaluation without "
                             'categories, which lvis 0.5.3 cannot do; use '
                             "'proposal_fast'")
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
