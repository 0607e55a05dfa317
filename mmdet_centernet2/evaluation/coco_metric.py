"""COCO metric."""
from __future__ import annotations

from typing import Dict

from mmdet.evaluation import CocoMetric, eval_recalls
from mmdet.registry import METRICS

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
    ``metric='proposal_fast'`` works on any numpy.

    Args:
        *args: See mmdet's ``CocoMetric``.
        backend (str): 'pycocotools', or 'faster_coco_eval', which gives the
            same figures in a fraction of the time. Defaults to 'pycocotools'.
        **kwargs: See mmdet's ``CocoMetric``.

    Raises:
        ValueError: If the backend is unknown, or ``use_mp_eval`` is set with
            'faster_coco_eval'.
        ImportError: If the backend's package is not installed.
    """

    results2json = results2json
    fast_eval_recall = with_names(
        CocoMetric.fast_eval_recall,
        eval_recalls=with_names(eval_recalls, np=OldNumpy()))

    def __init__(self, *args, backend: str = 'pycocotools', **kwargs) -> None:
        check_backend(backend)
        super().__init__(*args, **kwargs)
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
