"""Pictures of a run: its loss curve, and predictions beside ground truth."""
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence

import matplotlib

matplotlib.use('Agg')  # before pyplot: there may be no display

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.cm import ScalarMappable  # noqa: E402
from matplotlib.colors import Normalize  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

from .matching import match_detections  # noqa: E402

SCORE_COLORS = 'autumn_r'  # yellow to red: shows on trees and shadows
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

    def above(self, score_thr: float) -> 'Prediction':
        """The same with the detections of at least ``score_thr`` only."""
        keep = self.scores >= score_thr
        return Prediction(self.name, self.image, self.truth, self.boxes[keep],
                          self.scores[keep])


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Moving average over at most ``window`` values up to each one."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def save_loss_curve(history: Dict[str, List[float]], path: Path) -> None:
    """Plot the total loss and its parts over the iterations.

    Args:
        history: Per name of a loss its value at every iteration; ``loss`` is
            the total.
        path: PNG to write.
    """
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5))
    total = history['loss']
    window = max(1, len(total) // 20)
    steps = np.arange(1, len(total) + 1)
    axes[0].plot(steps, total, color='0.8', linewidth=1, label='one batch')
    axes[0].plot(
        steps,
        smooth(total, window),
        color='tab:blue',
        label=f'mean of the last {window}')
    axes[0].set_title('total loss')
    for name, values in sorted(history.items()):
        if name != 'loss':
            axes[1].plot(steps, smooth(values, window), label=name)
    axes[1].set_title('its parts')
    for ax in axes:
        ax.set_xlabel('iteration')
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=8, loc='lower left')
    # beside the curves, which fill the whole of the axes
    axes[1].legend(fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def save_picture(prediction: Prediction, path: Path,
                 score_thr: float) -> None:
    """Ground truth on the left, predictions on the right.

    Predictions are coloured by score; those that found no object (IoU under
    0.5 with every free one) are dashed.

    Args:
        prediction: What to draw.
        path: PNG to write.
        score_thr: Detections under this score are not drawn.
    """
    shown = prediction.above(score_thr)
    hit, found = match_detections(shown.boxes, shown.scores, shown.truth)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12.6, 6.4), layout='constrained')
    for ax in (left, right):
        ax.imshow(shown.image)
        ax.set_axis_off()
    _draw(left, shown.truth, [TRUTH_COLOR] * len(shown.truth))
    left.set_title(f'ground truth: {_count(len(shown.truth), "tree")}')
    colors = Normalize(score_thr, 1.0)
    palette = plt.get_cmap(SCORE_COLORS)
    _draw(right, shown.boxes, palette(colors(shown.scores)),
          ['-' if ok else '--' for ok in hit])
    right.set_title(f'predicted: {hit.sum()} right, {(~hit).sum()} wrong, '
                    f'{(~found).sum()} missed (score >= {score_thr:g})')
    right.legend(
        handles=[
            Line2D([], [], color='0.2', label='right (IoU >= 0.5)'),
            Line2D([], [], color='0.2', linestyle='--', label='wrong')
        ],
        loc='upper center',
        bbox_to_anchor=(0.5, 0),
        ncols=2,
        frameon=False)
    figure.colorbar(
        ScalarMappable(colors, palette), ax=right, shrink=0.8, label='score')
    figure.suptitle(prediction.name)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def save_pictures(predictions: Sequence[Prediction], folder: Path,
                  score_thr: float) -> List[Path]:
    """One picture for each prediction; returns the files' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for prediction in predictions:
        paths.append(folder / f'{Path(prediction.name).stem}.png')
        save_picture(prediction, paths[-1], score_thr)
    return paths


def _draw(ax: plt.Axes,
          boxes: np.ndarray,
          colors: Sequence,
          styles: Sequence[str] = ()) -> None:
    """Outline boxes (N, 4) on an axis."""
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        ax.add_patch(
            Rectangle((x1, y1),
                      x2 - x1,
                      y2 - y1,
                      fill=False,
                      linewidth=1.6,
                      edgecolor=colors[index],
                      linestyle=styles[index] if len(styles) else '-'))


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}' + ('' if number == 1 else 's')
