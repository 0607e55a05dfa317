"""What is found in one image, and the last steps on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import DeployedModelError


@dataclass
class Detections:
    """What is found in one image, the best first.

    Attributes:
        bboxes: (n, 4), float32, x1 y1 x2 y2 in pixels of the image.
        scores: (n, ), float32, from 0 to 1.
        labels: (n, ), int64, indices of the model's list of classes.
        masks: (n, h, w), bool, of the image's size; None for boxes only.
    """

    bboxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def keep(self, chosen: np.ndarray) -> Detections:
        """Those that an index or a mask (n, ) chooses."""
        masks = None if self.masks is None else self.masks[chosen]
        return Detections(self.bboxes[chosen], self.scores[chosen], self.labels[chosen], masks)

    def as_dict(self, classes: Sequence[str] | None = None) -> dict:
        """As mmdet's inferencer writes them, with ``label_names`` if ``classes`` are given.

        Masks are COCO's run lengths.
        """
        result = {key: getattr(self, key).tolist() for key in ('labels', 'scores', 'bboxes')}
        if self.masks is not None:
            result['masks'] = [_run_lengths(mask) for mask in self.masks]
        if classes is not None:
            result['label_names'] = [classes[label] for label in self.labels]
        return result


def finish(
    dets: np.ndarray,
    labels: np.ndarray,
    masks: np.ndarray | None,
    original_size: tuple[int, int],
    scale_factor: tuple[float, float],
    mask_thr: float,
) -> Detections:
    """Rescale to the original image, clip, drop empty boxes.

    Args:
        dets: (n, 5), in pixels of the network's input, and the score; 0 marks padding.
        labels: (n, ).
        masks: (n, h, w), probabilities inside each box.
        original_size: (height, width) of the image.
        scale_factor: Resized width and height by the original ones.
        mask_thr: Smallest probability of a mask's pixels.
    """
    height, width = original_size
    factors = np.array([1 / s for s in scale_factor] * 2, np.float32)
    boxes = dets[:, :4].astype(np.float32) * factors
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
    kept = (dets[:, 4] > 0) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    found = Detections(boxes[kept], dets[kept, 4].astype(np.float32), labels[kept].astype(np.int64))
    if masks is not None:
        found.masks = paste_masks(masks[kept], found.bboxes, (height, width), mask_thr)
    return found


def paste_masks(
    masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int], threshold: float
) -> np.ndarray:
    """Masks (n, h, w) of boxes (n, 4), none empty, on an image of (height, width).

    As in mmdet, a pixel's probability is interpolated bilinearly at its
    centre, with zeros around the mask.
    """
    pasted = np.zeros((len(masks), *size), bool)
    for place, mask, (x1, y1, x2, y2) in zip(pasted, masks, boxes):
        rows, along_y = _weights(y1, y2, mask.shape[0], size[0])
        columns, along_x = _weights(x1, x2, mask.shape[1], size[1])
        place[rows, columns] = along_y @ mask @ along_x.T >= threshold
    return pasted


def _weights(low: float, high: float, cells: int, length: int) -> tuple[slice, np.ndarray]:
    """Pixels near a box along one axis; weights (pixels, cells) of a mask."""
    start, stop = max(int(low) - 1, 0), min(int(np.ceil(high)) + 1, length)
    centres = np.arange(start, stop, dtype=np.float32) + np.float32(0.5)
    places = (centres - low) / (high - low) * cells - 0.5
    distance = np.abs(places[:, None] - np.arange(cells, dtype=np.float32))
    return slice(start, stop), np.maximum(1 - distance, 0).astype(np.float32)


def _run_lengths(mask: np.ndarray) -> dict:
    try:
        from pycocotools.mask import encode
    except ImportError as error:
        raise DeployedModelError(
            'masks are written as COCO run lengths, which needs pycocotools: '
            'pip install pycocotools (or write no results: --no-save-pred)'
        ) from error
    encoded = encode(np.asfortranarray(mask, np.uint8))
    return dict(size=encoded['size'], counts=encoded['counts'].decode())
