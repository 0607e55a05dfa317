"""COCO evaluation with faster-coco-eval in pycocotools' figures."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from mmdet.datasets.api_wrappers import COCOeval

from .faster_eval import match_and_accumulate


class FasterCOCOeval(COCOeval):
    """``COCOeval`` whose slow steps are compiled; the figures stay.

    ``evaluate`` matches and accumulates in one go, so that ``evalImgs``
    stays empty. Only for 'bbox' and 'segm'.
    """

    def evaluate(self) -> None:
        """Match detections and ground truths; see ``COCOeval.evaluate``."""
        params = self.params
        params.imgIds = np.unique(params.imgIds).tolist()
        if params.useCats:
            params.catIds = np.unique(params.catIds).tolist()
        params.maxDets = sorted(params.maxDets)
        self._prepare()
        objects, detections, cat_ids = self._gts, self._dts, params.catIds
        if not params.useCats:
            objects, detections = (
                _without_categories(by_pair, params) for by_pair in (objects, detections)
            )
            cat_ids = [1]
        self.eval = dict(
            params=params,
            **match_and_accumulate(
                objects,
                detections,
                cat_ids,
                params.iouType,
                dict(
                    iouThrs=np.asarray(params.iouThrs, dtype=float),
                    recThrs=np.asarray(params.recThrs, dtype=float),
                    areaRng=params.areaRng,
                    maxDets=params.maxDets,
                ),
            ),
        )

    def accumulate(self, p=None) -> None:
        """Done already.

        Raises:
            ValueError: If other parameters are given.
        """
        if p is not None:
            raise ValueError(
                'FasterCOCOeval cannot accumulate with other '
                'parameters than it has evaluated with; set '
                'them before evaluate()'
            )


def _without_categories(by_pair: dict, params) -> dict:
    """All of an image under category 1, in pycocotools' order."""
    merged: dict[tuple, list] = defaultdict(list)
    for image in params.imgIds:
        for cat in params.catIds:
            if (image, cat) in by_pair:
                merged[image, 1] += by_pair[image, cat]
    return merged
