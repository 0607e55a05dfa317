"""LVIS evaluation on any numpy, with progress, in the original's figures."""
from __future__ import annotations

from typing import List, Tuple

import numpy as np
from lvis import LVIS, LVISEval
from rich.progress import track

from mmdet_centernet2.datasets.annotation_file import read_annotations

from .faster_eval import MatchParams, match_and_accumulate
from .old_numpy import OldNumpy, with_names


class CheckedLVIS(LVIS):
    """``LVIS`` of a checked file, the ground truth of an evaluation.

    Args:
        path (str): The annotation file.
        **kwargs: See :func:`read_annotations`.
    """

    def __init__(self, path: str, **kwargs) -> None:
        self._options = kwargs
        super().__init__(path)

    def _load_json(self, path: str) -> dict:
        return read_annotations(path, evaluation=True, **self._options)


class SparseLVISEval(LVISEval):
    """``LVISEval`` that visits only what there is to evaluate.

    The original asks for every image and every category, 24 million pairs on
    LVIS v1 val, nearly all of them without a box. Here only pairs with a
    ground truth or a detection are visited, and a progress bar is shown. The
    figures are the same to the last bit.
    """

    # The only place that uses `np.float`.
    accumulate = with_names(LVISEval.accumulate, np=OldNumpy())

    def evaluate(self) -> None:
        """Match detections and ground truths; see ``LVISEval.evaluate``."""
        params = self.params
        if not params.use_cats:
            return super().evaluate()
        params.img_ids = np.unique(params.img_ids).tolist()
        self._prepare()
        num_areas, num_imgs = len(params.area_rng), len(params.img_ids)
        rows = {cat: i for i, cat in enumerate(params.cat_ids)}
        columns = {img: i for i, img in enumerate(params.img_ids)}
        # In the order that `accumulate` expects: category, area, image.
        self.eval_imgs = [None] * (len(rows) * num_areas * num_imgs)
        for img, cat in track(self._filled_pairs(), 'evaluating'):
            self.ious[img, cat] = self.compute_iou(img, cat)
            for area, area_rng in enumerate(params.area_rng):
                place = (rows[cat] * num_areas + area) * num_imgs
                self.eval_imgs[place + columns[img]] = self.evaluate_img(
                    img, cat, area_rng)

    def _filled_pairs(self) -> List[Tuple[int, int]]:
        """(image id, category id) with a ground truth or a detection."""
        return sorted(set(self._gts) | set(self._dts))


class FasterLVISEval(SparseLVISEval):
    """``LVISEval`` whose slow steps are compiled; the figures stay.

    Annotations marked ``ignore`` (the published ones are not) are something
    that the compiled package does not know; with them, evaluation is that of
    :class:`SparseLVISEval`.
    """

    def evaluate(self) -> None:
        """Match detections and ground truths; see ``LVISEval.evaluate``."""
        params = self.params
        marked = any(
            ann.get('ignore') for ann in self.lvis_gt.dataset['annotations'])
        if marked or not params.use_cats:
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
            objects, self._dts, params.cat_ids,
            MatchParams(params.iou_type, params.iou_thrs, params.rec_thrs,
                        params.area_rng, [most]), self.img_nel)
        self.eval = dict(
            params=params,
            precision=found['precision'][..., 0],
            recall=found['recall'][..., 0])

    def accumulate(self) -> None:
        """Done already, if `evaluate` did it."""
        if not self.eval:
            super().accumulate()
