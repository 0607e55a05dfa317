"""Does an exported model find what the PyTorch model finds?

Both start from image files, each with its own decoding, resizing and last
steps, so that a difference anywhere shows in the boxes.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmdet.apis import init_detector
from mmdet.registry import DATASETS, METRICS
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
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
        images: Number of images.
        pairs: Detections that both models have.
        only_reference: Detections that only the reference has.
        only_other: Detections that only the other model has.
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

    def add(self, reference: Detections, other: Detections) -> None:
        """Compare what both found in one image."""
        first, second = match(reference, other)
        alone = np.delete(reference.scores, first), np.delete(other.scores, second)
        self.only_reference += int((alone[0] >= self.score_thr).sum())
        self.only_other += int((alone[1] >= self.score_thr).sum())
        counts = np.maximum(reference.scores[first], other.scores[second]) >= self.score_thr
        one, two = reference.keep(first[counts]), other.keep(second[counts])
        self.images += 1
        self.pairs += len(one)
        self.box = max(self.box, float(abs(one.bboxes - two.bboxes).max(initial=0)))
        self.score = max(self.score, float(abs(one.scores - two.scores).max(initial=0)))
        if one.masks is not None and two.masks is not None:
            union = np.maximum((one.masks | two.masks).sum((1, 2)), 1)
            shares = (one.masks ^ two.masks).sum((1, 2)) / union
            self.mask = max(self.mask, float(shares.max(initial=0)))

    def within(self, box: float = 0.1, score: float = 1e-3) -> bool:
        """Whether nothing is left over and pairs are so close (box in pixels)."""
        alone = self.only_reference + self.only_other
        return alone == 0 and self.box <= box and self.score <= score


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


class TestImages:
    """Items of a folder's images, or else of a config's test data set."""

    __test__ = False  # pytest would take it for a test

    def __init__(self, cfg: Config, folder: str | Path | None = None):
        data = cfg.test_dataloader.dataset
        self.dataset = DATASETS.build(data) if folder is None else None
        self.paths = [] if folder is None else list_images(folder)
        steps = [step for step in data.pipeline if not step['type'].endswith('LoadAnnotations')]
        self.pipeline = Compose(steps)

    def __len__(self) -> int:
        return len(self.paths if self.dataset is None else self.dataset)

    def __iter__(self) -> Iterator[dict]:
        for i in range(len(self)):
            if self.dataset is not None:
                yield self.dataset[i]
            else:
                yield self.pipeline(dict(img_path=str(self.paths[i]), img_id=i))


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


def build_model(cfg: Config, checkpoint: str | Path | None, device: str = 'cpu') -> nn.Module:
    """A PyTorch model that is ready to detect."""
    return init_detector(
        copy.deepcopy(cfg), checkpoint and str(checkpoint), device=device, palette='none'
    )


def find_all(
    finders: Mapping[str, Finder], images: TestImages, progress: bool = True
) -> dict[str, list[Detections]]:
    """Run every model on every image; detections by the models' names."""
    found: dict[str, list[Detections]] = {name: [] for name in finders}
    for item in tqdm(images, desc='Images', disable=not progress):
        for name, find in finders.items():
            found[name].append(find(item))
    return found


def agreement(reference: list[Detections], other: list[Detections], score_thr: float) -> Agreement:
    """Compare two models over many images."""
    result = Agreement(score_thr)
    for pair in zip(reference, other):
        result.add(*pair)
    return result


def average_precision(cfg: Config, images: TestImages, found: list[Detections]) -> dict[str, float]:
    """Figures of the config's test evaluator, such as ``coco/bbox_mAP``."""
    metric = METRICS.build(copy.deepcopy(cfg.test_evaluator))
    metric.dataset_meta = images.dataset.metainfo
    for item, detections in zip(images, found):
        sample = item['data_samples'].clone()
        sample.pred_instances = to_instances(detections)
        metric.process({}, [sample.to_dict()])
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools' tables
        return metric.evaluate(len(found))


def compare(
    cfg: Config,
    checkpoint: str | Path,
    model: str | Path,
    backend: str = 'onnxruntime',
    folder: str | Path | None = None,
    score_thr: float | None = None,
) -> tuple[Agreement, dict[str, dict[str, float]]]:
    """Compare a PyTorch model with the file that was exported from it.

    Args:
        cfg: Of the PyTorch model.
        checkpoint: Its weights.
        model: The file.
        backend: What runs it.
        folder: Images; the config's test data set by default.
        score_thr: Detections count from this score on; by default all.

    Returns:
        How far they agree; figures of the evaluator for ``reference`` and
        ``other``, none for a folder.
    """
    detector = Detector(model, backend)
    score_thr = detector.info.score_thr if score_thr is None else score_thr
    images = TestImages(cfg, folder)
    reference = torch_finder(build_model(cfg, checkpoint))
    found = find_all(dict(reference=reference, other=exported_finder(detector)), images)
    aps = {}
    if images.dataset is not None:
        aps = {name: average_precision(cfg, images, each) for name, each in found.items()}
    return agreement(found['reference'], found['other'], score_thr), aps
