"""COCO metric."""
from __future__ import annotations

import logging
from typing import Dict

from mmdet.evaluation import CocoMetric, eval_recalls
from mmdet.registry import METRICS
from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from mmdet_centernet2.datasets.annotation_file import (AnnotationError,
                                                       CheckedCOCO,
                                                       has_objects)

from .faster_eval import check_backend
from .old_numpy import OldNumpy, with_names
from .results_file import results2json

#: Places in ``COCOeval.stats`` of mmdet's names.
_STATS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l', 'AR@100',
          'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000')


@METRICS.register_module()
class CenterNet2CocoMetric(CocoMetric):
    """mmdet's ``CocoMetric`` with a choice of the package that evaluates.

    The figures are the same but for not being rounded to three digits, and
    ``metric='proposal_fast'`` works on any numpy. The annotation file is read
    as :func:`read_annotations` does: ids from 0 count, classes are found by
    name, in whatever order the file has them.

    Args:
        ann_file (str, optional): See mmdet's ``CocoMetric``.
        *args: See there.
        backend (str): 'pycocotools', or 'faster_coco_eval', which gives the
            same figures in a fraction of the time. Defaults to 'pycocotools'.
        bad_boxes (str): What to do with boxes that cannot be right, 'error'
            or 'drop'; as in the data set. Defaults to 'error'.
        **kwargs: See mmdet's ``CocoMetric``.

    Raises:
        AnnotationError: If the annotation file is at fault, or has no object
            to evaluate with.
        ValueError: If the backend is unknown, or ``use_mp_eval`` is set with
            'faster_coco_eval'.
        ImportError: If the backend's package is not installed.
    """

    results2json = results2json
    fast_eval_recall = with_names(
        CocoMetric.fast_eval_recall,
        eval_recalls=with_names(eval_recalls, np=OldNumpy()))

    def __init__(self,
                 ann_file: str | None = None,
                 *args,
                 backend: str = 'pycocotools',
                 bad_boxes: str = 'error',
                 **kwargs) -> None:
        check_backend(backend)
        super().__init__(None, *args, **kwargs)
        if ann_file is not None:
            with get_local_path(
                    ann_file, backend_args=self.backend_args) as path:
                self._coco_api = CheckedCOCO(
                    path,
                    name=ann_file,
                    bad_boxes=bad_boxes,
                    masks='segm' in self.metrics,
                    config_key='the evaluator')
            if not self.format_only and not has_objects(
                    self._coco_api.dataset):
                raise AnnotationError(
                    f'{ann_file}: no object to evaluate with; for a test set '
                    'without annotations, set format_only=True and '
                    'outfile_prefix')
        self.backend = backend
        if self.use_mp_eval and backend != 'pycocotools':
            raise ValueError('use_mp_eval=True is for '
                             f"backend='pycocotools', not {backend!r}, which "
                             'needs no further processes')

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """Evaluate all detections.

        Args:
            results (list): What ``process`` collected.

        Returns:
            dict[str, float]: See mmdet's ``CocoMetric``; not rounded.
        """
        self._warn_of_missing(results)
        evaluations = []

        def recorded(make):

            def evaluation(*args):
                evaluations.append(make(*args))
                return evaluations[-1]

            return evaluation

        names = CocoMetric.compute_metrics.__globals__
        make = names['COCOeval']
        if self.backend == 'faster_coco_eval':
            from .coco_eval import FasterCOCOeval as make
        compute = with_names(
            CocoMetric.compute_metrics,
            COCOeval=recorded(make),
            COCOevalMP=recorded(names['COCOevalMP']))
        metrics = compute(self, results)
        evaluated = (m for m in self.metrics if m != 'proposal_fast')
        for metric, done in zip(evaluated, evaluations):
            prefix = '' if metric == 'proposal' else f'{metric}_'
            for name, value in zip(_STATS, done.stats):
                # 'proposal_fast' has some of the names of 'proposal'
                if metrics.get(f'{prefix}{name}') == round(value, 3):
                    metrics[f'{prefix}{name}'] = float(value)
        return metrics

    def _warn_of_missing(self, results: list) -> None:
        """Objects of images that nobody looked at count as missed."""
        if self._coco_api is None:
            return
        total = len(self._coco_api.get_img_ids())
        seen = len({prediction['img_id'] for _, prediction in results})
        if seen < total:
            print_log(
                f'{total - seen} of the {total} images in the evaluator\'s '
                'ann_file were not tested: their objects count as missed',
                'current', logging.WARNING)
