"""Large pictures in overlapping tiles, cut and put together by SAHI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .detections import Detections
from .errors import DeployedModelError


class TiledDetector:
    """Detects in tiles and in the whole picture; of boxes of one object the best stays.

    Boxes of one class are of one object where more than half of the smaller
    one is common; a piece that a tile's edge cuts comes behind whole objects,
    whatever its score. SAHI's default, one box around all of them, finds fewer
    trees in a crowd. There are no masks.

    Args:
        detector: Gives :class:`Detections` for each of a list; has ``info``.
        size: Side of a tile in pixels.
        overlap: Of neighbours, as a part of the side.
        score_thr: Boxes up to it are left out.

    Raises:
        DeployedModelError: If SAHI is missing, or for a size or an overlap
            that cannot be used.
    """

    def __init__(
        self,
        detector: Callable[[Sequence[np.ndarray]], list[Detections]],
        size: int,
        overlap: float,
        score_thr: float,
    ):
        try:
            from sahi.postprocess.combine import batched_nms
        except ImportError as error:
            raise DeployedModelError(
                f'--tile needs SAHI ({error}): pip install --no-deps sahi && pip install shapely'
            ) from error
        if size < 1:
            raise DeployedModelError(f'--tile must be at least 1, not {size}.')
        if not 0 <= overlap <= 0.9:
            raise DeployedModelError(f'--overlap must be from 0 to 0.9, not {overlap}.')
        self.info: Any = detector.info
        self._detector, self._score_thr = detector, score_thr
        self._slices, self._suppress = (size, size, False, overlap, overlap), batched_nms

    def __call__(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Detect on images (h, w, 3), uint8, BGR."""
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> Detections:
        from sahi.slicing import get_slice_bboxes

        height, width = image.shape[:2]
        tiles = get_slice_bboxes(height, width, *self._slices)
        rows = [np.empty((0, 7))]  # box, rank, class, score
        for x1, y1, x2, y2 in [[0, 0, width, height], *tiles] if len(tiles) > 1 else tiles:
            (found,) = self._detector([np.ascontiguousarray(image[y1:y2, x1:x2])])
            found = found.keep(found.scores > self._score_thr)
            boxes, edges = found.bboxes + [x1, y1, x1, y1], np.array([x1, y1, x2, y2])
            inner = edges != [0, 0, width, height]
            # what a tile's edge cuts comes behind all whole objects
            cut = ((abs(boxes - edges) < 2) & inner).any(1)
            rows.append(np.c_[boxes, found.scores - cut, found.labels, found.scores])
        objects = np.concatenate(rows).astype(np.float32)
        kept = self._suppress(objects[:, :6], match_metric='IOS', match_threshold=0.5)
        objects = objects[sorted(kept, key=lambda row: -objects[row, 6])]
        return Detections(objects[:, :4], objects[:, 6], objects[:, 5].astype(np.int64))
