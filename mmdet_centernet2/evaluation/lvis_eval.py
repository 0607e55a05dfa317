"""LVIS evaluation on any numpy, with progress, in the original's figures."""

from __future__ import annotations

import logging
from collections import defaultdict

import numpy as np
from lvis import LVIS, LVISEval, LVISResults
from rich.progress import track

from mmdet_centernet2.datasets.annotation_file import read_annotations

from .faster_eval import match_and_accumulate


class CheckedLVIS(LVIS):
    """``LVIS`` of a checked file, the ground truth of an evaluation.

    Args:
        path: The annotation file.
        **kwargs: See :func:`read_annotations`.
    """

    def __init__(self, path: str, **kwargs) -> None:
        self._options = kwargs
        super().__init__(path)

    def _load_json(self, path: str) -> dict:
        return read_annotations(path, evaluation=True, **self._options)


def load_results(truth: LVIS, detections: list[dict]) -> LVISResults:
    """Detections as ``lvis`` wants them, the best 300 of each image."""
    # it warns of every list that it is given
    logging.getLogger('lvis.results').setLevel(logging.ERROR)
    return LVISResults(truth, detections)


class SparseLVISEval(LVISEval):
    """``LVISEval`` that visits only what there is to evaluate.

    The original asks for every image and every category, 24 million pairs on
    LVIS v1 val, nearly all of them without a box. Here only pairs with a
    ground truth or a detection are visited. The figures are the same to the
    last bit.
    """

    def evaluate(self) -> None:
        """Match detections and ground truths; see ``LVISEval.evaluate``.

        ``eval_imgs`` lists by (category index, area index) the results of the
        images that have any.
        """
        params = self.params
        params.img_ids = np.unique(params.img_ids).tolist()
        self._prepare()
        rows = {cat: i for i, cat in enumerate(params.cat_ids)}
        self.eval_imgs = defaultdict(list)
        for img, cat in track(sorted({*self._gts, *self._dts}), 'evaluating'):
            self.ious[img, cat] = self.compute_iou(img, cat)
            for area, area_rng in enumerate(params.area_rng):
                self.eval_imgs[rows[cat], area].append(self.evaluate_img(img, cat, area_rng))

    def accumulate(self) -> None:
        """Precision and recall; the original's code needs ``np.float``."""
        params = self.params
        sizes = len(params.cat_ids), len(params.area_rng)
        precision = -np.ones((len(params.iou_thrs), len(params.rec_thrs), *sizes))
        recall = -np.ones((len(params.iou_thrs), *sizes))
        for (cat, area), found in self.eval_imgs.items():
            num_objects = sum((e['gt_ignore'] == 0).sum() for e in found)
            if not num_objects:
                continue
            order = np.argsort(-np.concatenate([e['dt_scores'] for e in found]), kind='mergesort')
            matched, ignored = (
                np.concatenate([e[key] for e in found], 1)[:, order] != 0
                for key in ('dt_matches', 'dt_ignore')
            )
            tps = (matched & ~ignored).cumsum(1)
            fps = (~matched & ~ignored).cumsum(1)
            for thr, (tp, fp) in enumerate(zip(tps, fps)):
                recalls = tp / num_objects
                recall[thr, cat, area] = recalls[-1] if len(tp) else 0
                highest = np.maximum.accumulate((tp / (fp + tp + np.spacing(1)))[::-1])[::-1]
                places = np.searchsorted(recalls, params.rec_thrs)
                precision[thr, :, cat, area] = np.append(highest, 0)[places]
        self.eval = dict(params=params, precision=precision, recall=recall)


class FasterLVISEval(SparseLVISEval):
    """``LVISEval`` whose slow steps are compiled; the figures stay.

    Annotations marked ``ignore`` (the published ones are not) are something
    that the compiled package does not know; with them, evaluation is that of
    :class:`SparseLVISEval`.
    """

    def evaluate(self) -> None:
        """Match detections and ground truths; see ``LVISEval.evaluate``."""
        params = self.params
        if any(a.get('ignore') for a in self.lvis_gt.dataset['annotations']):
            return super().evaluate()
        params.img_ids = np.unique(params.img_ids).tolist()
        self._prepare()
        objects = {
            pair: [dict(ann, iscrowd=0) for ann in anns]  # lvis has no crowds
            for pair, anns in self._gts.items()
        }
        # No limit here: `lvis` has limited the detections of an image already.
        most = max(map(len, self._dts.values()), default=1)
        found = match_and_accumulate(
            objects,
            self._dts,
            params.cat_ids,
            params.iou_type,
            dict(
                iouThrs=params.iou_thrs,
                recThrs=params.rec_thrs,
                areaRng=params.area_rng,
                maxDets=[most],
            ),
            self.img_nel,
        )
        self.eval = dict(
            params=params, precision=found['precision'][..., 0], recall=found['recall'][..., 0]
        )

    def accumulate(self) -> None:
        """Done already, if `evaluate` did it."""
        if not self.eval:
            super().accumulate()
