"""Drawing boxes so that small objects stay visible."""

from __future__ import annotations

import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.visualization import DetLocalVisualizer
from mmdet.visualization.palette import _get_adaptive_scales, get_palette
from mmengine.structures import InstanceData

from ..datasets.palette import distinct_palette

_FONT_SIZE = 13  # points, as mmdet; boxes below 30,000 square pixels: half
_BEHIND_TEXT = dict(facecolor='black', alpha=0.8, pad=0.7, edgecolor='none')


@VISUALIZERS.register_module()
class CenterNet2Visualizer(DetLocalVisualizer):
    """mmdet's ``DetLocalVisualizer`` with captions outside the boxes.

    A caption stands above its box, or below, right or left of it, where it
    covers least of other objects and captions. Classes for which the palette
    is too short get colours of :func:`distinct_palette`.
    """

    def _draw_instances(
        self,
        image: np.ndarray,
        instances: InstanceData,
        classes: list[str] | None,
        palette: list[tuple] | str | None,
    ) -> np.ndarray:
        labels = instances.labels.tolist()
        colours = max(labels, default=-1) + 1
        if palette in (None, 'random') or (isinstance(palette, list) and len(palette) < colours):
            palette = distinct_palette(max(len(classes or ()), colours))
        if 'bboxes' not in instances or not instances.bboxes.sum() > 0:
            return super()._draw_instances(image, instances, classes, palette)
        captions = _captions(instances, classes)
        silent = InstanceData(**{k: v for k, v in instances.items() if k != 'scores'})
        silent.label_names = [''] * len(labels)
        super()._draw_instances(image, silent, classes, palette)
        self._draw_captions(captions, labels, np.asarray(instances.bboxes))
        return self.get_image()

    def _draw_captions(self, captions: list[str], labels: list[int], boxes: np.ndarray) -> None:
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        sizes = (_FONT_SIZE * _get_adaptive_scales(areas)).astype(int)
        colours = get_palette(self.text_color, max(labels) + 1)
        taken = boxes
        for caption, label, box, size in zip(captions, labels, boxes, sizes):
            self.draw_texts(
                caption,
                np.zeros(2),
                font_sizes=int(size),
                colors=colours[label],
                bboxes=[dict(_BEHIND_TEXT)],
            )
            text = self.ax_save.texts[-1]
            extent = text.get_window_extent(self.fig_save_canvas.get_renderer())
            place = caption_place(
                box, (extent.width + 4, extent.height + 4), (self.width, self.height), taken
            )
            taken = np.vstack([taken, place])
            text.set_position(place[:2] + 2)
            text.set_zorder(3 + 1 / len(taken))  # the best is on top


def _captions(instances: InstanceData, classes: list[str] | None) -> list[str]:
    """Name and score in per cent of each instance."""
    known = dict(enumerate(classes or ()))
    names = instances.get('label_names') or [
        known.get(label, f'class {label}') for label in instances.labels.tolist()
    ]
    if 'scores' not in instances:
        return list(names)
    return [f'{name}: {100 * score:.1f}' for name, score in zip(names, instances.scores.tolist())]


def caption_place(
    box: np.ndarray, size: tuple[float, float], image: tuple[int, int], taken: np.ndarray
) -> np.ndarray:
    """Where a caption covers least of the boxes ``taken``, (n, 4): objects and other captions.

    ``size`` and ``image`` are (width, height). The first free place of above,
    below, right and left of the ``box``, as x1 y1 x2 y2 in the image.
    """
    x1, y1, x2, y2 = box
    width, height = size
    corners = np.array([(x1, y1 - height - 2), (x1, y2 + 2), (x2 + 2, y1), (x1 - width - 2, y1)])
    corners = corners.clip(0, np.maximum(np.subtract(image, size), 0))
    places = np.hstack([corners, corners + size])
    last = np.minimum(places[:, None, 2:], taken[:, 2:])
    first = np.maximum(places[:, None, :2], taken[:, :2])
    # A small object is hidden by what a large one does not notice.
    hidden = (last - first).clip(0).prod(2) / (taken[:, 2:] - taken[:, :2]).prod(1).clip(1)
    return places[hidden.sum(1).argmin()]
