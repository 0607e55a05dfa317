"""Does an exported model find what the PyTorch model finds?

Both start from image files, each with its own decoding, resizing and last
steps, so that a difference anywhere shows in the boxes.
"""

from __future__ import annotations

import contextlib
import copy
import io
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import DATASETS, METRICS
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from scipy.optimize import linear_sum_assignment
from torch import nn
from tqdm import tqdm

from mmdet_centernet2.runtime import Detections, Detector
from mmdet_centernet2.runtime.images import list_images

from .backend_model import from_instances, to_instances

#: Gets an item of the test data, gives what is found in its image.
Finder = Callable[[dict], Detections]

_SAME_OBJECT = 1.0  # pixels that boxes of one object may lie apart
_SCORE_WEIGHT = 100.0  # pixels that a difference of 1 in score counts as


@dataclass
class Agreement:
    """How far two models agree, over many images.

    Attributes:
        score_thr: Detections count from this score on, in either model.
        pairs: Detections that both models have.
        box: Largest difference of a coordinate of a pair, in pixels of the
            original image.
        score: Largest difference of the scores of a pair.
        mask: Largest share of differing pixels in the union of a pair's
            masks; zero without masks.
    """

    score_thr: float
    images: int = 0
    pairs: int = 0
    only_reference: int = 0
    only_other: int = 0
    box: float = 0.0
    score: float = 0.0
    mask: float = 0.0

    def within(self, box: float = 0.1, score: float = 1e-3) -> bool:
        """Whether nothing is left over and pairs are so close (box in pixels)."""
        alone = self.only_reference + self.only_other
        return alone == 0 and self.box <= box and self.score <= score


def agreement(
    reference: Iterable[Detections], other: Iterable[Detections], score_thr: float = 0.0
) -> Agreement:
    """Compare what two models found in the same images."""
    result = Agreement(score_thr)
    for one, two in zip(reference, other):
        first, second = match(one, two)
        result.images += 1
        result.only_reference += int((np.delete(one.scores, first) >= score_thr).sum())
        result.only_other += int((np.delete(two.scores, second) >= score_thr).sum())
        counts = np.maximum(one.scores[first], two.scores[second]) >= score_thr
        one, two = one.keep(first[counts]), two.keep(second[counts])
        result.pairs += len(one)
        result.box = max(result.box, float(abs(one.bboxes - two.bboxes).max(initial=0)))
        result.score = max(result.score, float(abs(one.scores - two.scores).max(initial=0)))
        if one.masks is not None and two.masks is not None:
            union = np.maximum((one.masks | two.masks).sum((1, 2)), 1)
            shares = (one.masks ^ two.masks).sum((1, 2)) / union
            result.mask = max(result.mask, float(shares.max(initial=0)))
    return result


def match(reference: Detections, other: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Indices (k, ) in both of the k pairs that are the same object of the same class.

    The one-to-one assignment with the smallest total difference; boxes more
    than a pixel apart are never a pair.
    """
    distance = abs(reference.bboxes[:, None] - other.bboxes).max(-1, initial=0)
    possible = (distance <= _SAME_OBJECT) & (reference.labels[:, None] == other.labels)
    cost = distance + _SCORE_WEIGHT * abs(reference.scores[:, None] - other.scores)
    # dearer than all possible pairs together
    cost[~possible] = 1 + cost[possible].sum()
    first, second = linear_sum_assignment(cost)
    kept = possible[first, second]
    return first[kept], second[kept]


class Folder(BaseDataset):
    """Images of a folder, for a test pipeline."""

    def load_data_list(self) -> list[dict]:
        """As ``BaseDataset`` wants it."""
        return [dict(img_path=str(p), img_id=i) for i, p in enumerate(list_images(self.data_root))]


def test_images(cfg: Config, folder: str | Path | None = None) -> BaseDataset:
    """A folder's images, or else a config's test data set."""
    data = cfg.test_dataloader.dataset
    if folder is None:
        return DATASETS.build(data)
    steps = [step for step in data.pipeline if not step['type'].endswith('LoadAnnotations')]
    return Folder(data_root=str(folder), pipeline=steps, test_mode=True)


test_images.__test__ = False  # pytest would take it for a test


def torch_finder(model: nn.Module) -> Finder:
    """Detections of a PyTorch model."""

    @torch.no_grad()
    def find(item: dict) -> Detections:
        (sample,) = model.test_step(pseudo_collate([copy.copy(item)]))
        return from_instances(sample.pred_instances)

    return find


def exported_finder(detector: Detector) -> Finder:
    """Detections of an exported model, which reads the file itself."""
    return lambda item: detector(item['data_samples'].img_path)


def find_all(
    finders: Mapping[str, Finder], images: Sequence[dict]
) -> tuple[dict[str, list[Detections]], dict[str, list[float]]]:
    """Run the models in turn on every image; detections and seconds by the models' names."""
    found: dict[str, list[Detections]] = {name: [] for name in finders}
    seconds: dict[str, list[float]] = {name: [] for name in finders}
    for item in tqdm(images, desc='Images'):
        for name, find in finders.items():
            start = time.perf_counter()
            found[name].append(find(item))
            seconds[name].append(time.perf_counter() - start)
    return found, seconds


def average_precision(
    cfg: Config, images: BaseDataset, found: list[Detections]
) -> dict[str, float]:
    """Figures of the config's test evaluator, such as ``coco/bbox_mAP``."""
    metric = METRICS.build(copy.deepcopy(cfg.test_evaluator))
    metric.dataset_meta = images.metainfo
    for item, detections in zip(images, found):
        sample = item['data_samples'].clone()
        sample.pred_instances = to_instances(detections)
        metric.process({}, [sample.to_dict()])
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools' tables
        return metric.evaluate(len(found))
