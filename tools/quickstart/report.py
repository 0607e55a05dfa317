"""Pictures of a run: its loss curve, and predictions beside ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure  # no pyplot: there may be no display
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from mmdet.evaluation.functional.mean_ap import tpfp_default

TRUTH_COLOR = '#39ff14'


@dataclass
class Prediction:
    """What was found in one image.

    Attributes:
        name: File name of the image.
        image: (H, W, 3) uint8, RGB.
        truth: (M, 4) x1 y1 x2 y2 in pixels.
        boxes: (N, 4) x1 y1 x2 y2 in pixels.
        scores: (N, ) in [0, 1].
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Moving average over at most ``window`` values up to each one."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def save_loss_curve(history: dict[str, list[float]], path: Path) -> None:
    """Plot the total loss (``loss``) and its parts over the iterations."""
    figure = Figure(figsize=(12, 4.5))
    whole, parts = figure.subplots(1, 2)
    total = history['loss']
    window = max(1, len(total) // 20)
    steps = np.arange(1, len(total) + 1)
    whole.plot(steps, total, color='0.8', linewidth=1, label='one batch')
    whole.plot(steps, smooth(total, window), color='tab:blue', label=f'mean of the last {window}')
    whole.legend(fontsize=8, loc='lower left')
    for name, values in sorted(history.items()):
        if name != 'loss':
            parts.plot(steps, smooth(values, window), label=name)
    # beside the curves, which fill the whole of the axes
    parts.legend(fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5))
    for ax, title in ((whole, 'total loss'), (parts, 'its parts')):
        ax.set(title=title, xlabel='iteration')
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def right_ones(boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which detections found an object, by PASCAL VOC's rule at IoU 0.5."""
    if not len(truth):
        return np.zeros(len(boxes), dtype=bool)
    scored = np.concatenate([boxes, scores[:, None]], axis=1)
    hits, _ = tpfp_default(scored, truth, np.zeros((0, 4)), iou_thr=0.5)
    return hits[0] > 0


def save_picture(prediction: Prediction, path: Path, score_thr: float) -> None:
    """Ground truth on the left; detections on the right, wrong ones dashed.

    Args:
        prediction: What to draw.
        path: PNG to write.
        score_thr: Detections under this score are not drawn.
    """
    truth, keep = prediction.truth, prediction.scores >= score_thr
    boxes, scores = prediction.boxes[keep], prediction.scores[keep]
    hit = right_ones(boxes, scores, truth)
    figure = Figure(figsize=(12.6, 6.4), layout='constrained')
    left, right = figure.subplots(1, 2)
    for ax in (left, right):
        ax.imshow(prediction.image)
        ax.set_axis_off()
    # yellow to red: shows on trees and shadows
    colors = ScalarMappable(Normalize(score_thr, 1.0), 'autumn_r')
    _draw(left, truth, [TRUTH_COLOR] * len(truth), ['-'] * len(truth))
    _draw(right, boxes, colors.to_rgba(scores), ['-' if ok else '--' for ok in hit])
    left.set_title(f'ground truth: {len(truth)} tree' + 's' * (len(truth) != 1))
    right.set_title(
        f'predicted: {hit.sum()} right, {(~hit).sum()} wrong, '
        f'{len(truth) - hit.sum()} missed '
        f'(score >= {score_thr:g})'
    )
    right.legend(
        handles=[
            Line2D([], [], color='0.2', label='right (IoU >= 0.5)'),
            Line2D([], [], color='0.2', linestyle='--', label='wrong'),
        ],
        loc='upper center',
        bbox_to_anchor=(0.5, 0),
        ncols=2,
        frameon=False,
    )
    figure.colorbar(colors, ax=right, shrink=0.8, label='score')
    figure.suptitle(prediction.name)
    figure.savefig(path, dpi=100)


def _draw(ax, boxes: np.ndarray, colors: Sequence, styles: Sequence[str]) -> None:
    """Outline boxes (N, 4) on an axis."""
    for (x1, y1, x2, y2), color, style in zip(boxes, colors, styles):
        ax.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                linewidth=1.6,
                edgecolor=color,
                linestyle=style,
            )
        )
