"""The second stage, RoI by RoI."""

from collections.abc import Callable, Sequence
from math import exp, floor, isfinite, log, log2, sqrt
from typing import NamedTuple

from .decode import Scored, iou, nms
from .layout import Box

WEIGHTS = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))
IOU_THRESHOLDS = (0.6, 0.7, 0.8)
LARGEST_LOG = log(1000 / 16)
#: Number of the stage, RoIs of an image -> class logits (C + 1) of each RoI
#: and its deltas (4).
Head = Callable[[int, list[Box]], tuple[list[list[float]], list[list[float]]]]


class Detection(NamedTuple):
    """A detected object."""

    score: float
    label: int
    box: Box


class StageTargets(NamedTuple):
    """What the RoIs of a stage have to learn."""

    labels: list[int]
    deltas: list[list[float] | None]


def roi_level(box: Box, lowest: int, highest: int) -> int:
    """Pyramid level of an RoI; p3 is 3."""
    side = sqrt((box[2] - box[0]) * (box[3] - box[1]))
    return min(max(floor(4 + log2(side / 224 + 1e-8)), lowest), highest)


def _form(box: Box) -> tuple[float, float, float, float]:
    """Centre and size of a box."""
    return ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1])


def encode(box: Box, target: Box, weights: Sequence[float]) -> list[float]:
    """Deltas that lead from a box to its target."""
    px, py, pw, ph = _form(box)
    gx, gy, gw, gh = _form(target)
    wx, wy, ww, wh = weights
    return [wx * (gx - px) / pw, wy * (gy - py) / ph, ww * log(gw / pw), wh * log(gh / ph)]


def decode(box: Box, deltas: Sequence[float], weights: Sequence[float]) -> Box:
    """Box that the deltas lead to; growth is limited, shrinking not."""
    px, py, pw, ph = _form(box)
    dx, dy, dw, dh = [d / w for d, w in zip(deltas, weights)]
    width = pw * exp(min(dw, LARGEST_LOG))
    height = ph * exp(min(dh, LARGEST_LOG))
    cx, cy = px + dx * pw, py + dy * ph
    return (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)


def clip(box: Box, height: float, width: float) -> Box:
    """The part of a box that is in the image."""
    return (
        min(max(box[0], 0), width),
        min(max(box[1], 0), height),
        min(max(box[2], 0), width),
        min(max(box[3], 0), height),
    )


def empty(box: Box) -> bool:
    """Whether nothing of a box is left."""
    return box[2] <= box[0] or box[3] <= box[1]


def stage_targets(
    rois: Sequence[Box], objects: Sequence[Box], labels: Sequence[int], stage: int, num_classes: int
) -> StageTargets:
    """Classes and deltas of a stage; background has no deltas."""
    found, deltas = [], []
    for roi in rois:
        overlaps = [iou(roi, box) for box in objects]
        best = max(overlaps, default=-1.0)
        if best >= IOU_THRESHOLDS[stage]:
            j = overlaps.index(best)
            found.append(labels[j])
            deltas.append(encode(roi, objects[j], WEIGHTS[stage]))
        else:
            found.append(num_classes)
            deltas.append(None)
    return StageTargets(found, deltas)


def softmax(logits: Sequence[float]) -> list[float]:
    """Probabilities of all classes and background."""
    top = max(logits)
    values = [exp(v - top) for v in logits]
    return [v / sum(values) for v in values]


def stage_losses(
    logits: Sequence[Sequence[float]], deltas: Sequence[Sequence[float]], targets: StageTargets
) -> tuple[float, float]:
    """Class and box loss of a stage; both over the number of all RoIs."""
    count = len(logits)
    cls = -sum(log(softmax(row)[label]) for row, label in zip(logits, targets.labels)) / count
    box = (
        sum(
            abs(d - t)
            for row, target in zip(deltas, targets.deltas)
            if target is not None
            for d, t in zip(row, target)
        )
        / count
    )
    return cls, box


def train_cascade(
    rois: list[list[Box]],
    objects: Sequence[Sequence[Box]],
    labels: Sequence[Sequence[int]],
    sizes: Sequence[tuple[float, float]],
    heads: Sequence[Head],
    num_classes: int,
) -> list[tuple[float, float]]:
    """Class and box loss of each stage, from the sampled RoIs of each image.

    Later stages take all boxes of the stage before, ground truth among
    them: clipped, the empty ones dropped, nothing sampled or added.

    Args:
        rois: Sampled RoIs of stage 0 of each image.
        objects: Ground-truth boxes of each image.
        labels: Their classes.
        sizes: Height and width of each image.
        heads: Of each image.
        num_classes: Without background.
    """
    losses = []
    for stage in range(3):
        logits, deltas, found, wanted = [], [], [], []
        moved = []
        for image, boxes in enumerate(rois):
            rows, steps = heads[image](stage, boxes)
            targets = stage_targets(boxes, objects[image], labels[image], stage, num_classes)
            logits += rows
            deltas += steps
            found += targets.labels
            wanted += targets.deltas
            moved.append(next_rois(boxes, steps, sizes[image], stage))
        losses.append(stage_losses(logits, deltas, StageTargets(found, wanted)))
        rois = [[box for box in boxes if not empty(box)] for boxes in moved]
    return losses


def next_rois(
    boxes: Sequence[Box], deltas: Sequence[Sequence[float]], size: tuple[float, float], stage: int
) -> list[Box]:
    """Boxes that a stage predicts, clipped to the unpadded image."""
    return [clip(decode(box, row, WEIGHTS[stage]), *size) for box, row in zip(boxes, deltas)]


def mean_probabilities(stages: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """Mean over the stages of each RoI's probabilities."""
    probs = [[softmax(row) for row in logits] for logits in stages]
    return [[sum(values) / len(values) for values in zip(*rows)] for rows in zip(*probs)]


def infer_cascade(
    boxes: list[Box],
    scores: Sequence[float],
    size: tuple[float, float],
    head: Head,
    stages: int = 3,
) -> tuple[list[list[float]], list[Box]]:
    """Fused scores of all classes and final boxes, in network pixels.

    Empty boxes stay between the stages. The score is the root of the mean
    probability times the proposal's score.
    """
    logits_of, start = [], boxes
    for stage in range(stages):
        logits, deltas = head(stage, start)
        logits_of.append(logits)
        start = next_rois(start, deltas, size, stage)
    mean = mean_probabilities(logits_of)
    fused = [[sqrt(p * o) for p in row[:-1]] for row, o in zip(mean, scores)]
    return fused, start


def final_detections(
    fused: Sequence[Sequence[float]],
    boxes: Sequence[Box],
    size: tuple[float, float],
    original_size: tuple[float, float],
    score_threshold: float = 0.05,
    nms_threshold: float = 0.7,
    limit: int = 100,
) -> list[Detection]:
    """Detections of one image in pixels of the original, best first.

    NMS per class in network pixels, the best ``limit``, and only then
    rescaling, clipping, and dropping what is empty.
    """
    found: list[Detection] = []
    for label in range(len(fused[0]) if fused else 0):
        pairs = [
            Scored(row[label], box)
            for row, box in zip(fused, boxes)
            if row[label] > score_threshold and all(isfinite(v) for v in (*row, *box))
        ]
        found += [Detection(item.score, label, item.box) for item in nms(pairs, nms_threshold)]
    found = sorted(found, key=lambda d: -d.score)[:limit]
    return _to_original(found, size, original_size)


def _to_original(
    found: Sequence[Detection], size: tuple[float, float], original_size: tuple[float, float]
) -> list[Detection]:
    fy, fx = original_size[0] / size[0], original_size[1] / size[1]
    scaled = []
    for d in found:
        x1, y1, x2, y2 = d.box
        box = clip((x1 * fx, y1 * fy, x2 * fx, y2 * fy), *original_size)
        if not empty(box):
            scaled.append(Detection(d.score, d.label, box))
    return scaled
