"""Does an exported model find what the PyTorch model finds?

Both start from image files: each with its own decoding, resizing and last
steps, so that whatever differs anywhere shows in the boxes.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from mmdet.apis import init_detector
from mmdet.registry import DATASETS, METRICS
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import nn
from tqdm import tqdm

from .runtime import Detections, Detector
from .runtime.images import list_images

#: Gets an item of the test data, gives what is found in its image.
Finder = Callable[[dict], Detections]

# How far boxes of the same object may lie apart, and how much of a pixel a
# difference in score counts when it is unclear who belongs to whom.
_SAME_OBJECT = 1.0  # pixels
_SCORE_WEIGHT = 100.0


@dataclass
class Agreement:
    """How far two models agree, over many images.

    Attributes:
        score_thr: Detections count from this score on, in either model.
        images: Number of images.
        pairs: Detections of one that belong to exactly one of the other.
        only_reference: Detections of the reference that belong to none.
        only_other: Detections of the other model that belong to none.
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
        counts = (reference.scores[first] >= self.score_thr) | (
            other.scores[second] >= self.score_thr
        )
        first, second = first[counts], second[counts]
        self.images += 1
        self.pairs += len(first)
        self.only_reference += self._alone(reference, first)
        self.only_other += self._alone(other, second)
        if not len(first):
            return
        one, two = reference.keep(first), other.keep(second)
        self.box = max(self.box, float(abs(one.bboxes - two.bboxes).max()))
        self.score = max(self.score, float(abs(one.scores - two.scores).max()))
        if one.masks is not None and two.masks is not None:
            self.mask = max(self.mask, _mask_difference(one.masks, two.masks))

    def within(self, box: float = 0.1, score: float = 1e-3) -> bool:
        """Whether nothing is left over and pairs are so close (box in px)."""
        return (
            self.only_reference + self.only_other == 0 and self.box <= box and self.score <= score
        )

    def _alone(self, found: Detections, paired: np.ndarray) -> int:
        alone = np.ones(len(found), bool)
        alone[paired] = False
        return int((found.scores[alone] >= self.score_thr).sum())


def match(reference: Detections, other: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Which detections are the same object of the same class.

    One to one; of all such pairings that with the smallest differences in
    total. Boxes more than a pixel apart are never a pair.

    Returns:
        Indices of the k pairs in both, each (k, ).
    """
    distance = abs(reference.bboxes[:, None] - other.bboxes).max(-1, initial=0)
    possible = (distance <= _SAME_OBJECT) & (reference.labels[:, None] == other.labels)
    cost = distance + _SCORE_WEIGHT * abs(reference.scores[:, None] - other.scores)
    # dearer than all possible pairs together
    cost[~possible] = 1 + cost[possible].sum()
    first, second = linear_sum_assignment(cost)
    kept = possible[first, second]
    return first[kept], second[kept]


def _mask_difference(one: np.ndarray, two: np.ndarray) -> float:
    union = np.maximum((one | two).sum((1, 2)), 1)
    return float(((one ^ two).sum((1, 2)) / union).max())


class TestImages:
    """Images of a folder, or else of a config's test data set."""

    __test__ = False  # pytest would take it for a test

    def __init__(self, cfg: Config, folder: str | Path | None = None):
        self.dataset = None
        if folder is None:
            self.dataset = DATASETS.build(cfg.test_dataloader.dataset)
            return
        pipeline = cfg.test_dataloader.dataset.pipeline
        self.paths = list_images(folder)
        self.pipeline = Compose(
            [
                transform
                for transform in pipeline
                if not transform['type'].endswith('LoadAnnotations')
            ]
        )

    def __len__(self) -> int:
        return len(self.paths if self.dataset is None else self.dataset)

    def __iter__(self) -> Iterator[dict]:
        if self.dataset is not None:
            yield from (self.dataset[i] for i in range(len(self.dataset)))
            return
        for index, path in enumerate(self.paths):
            yield self.pipeline(dict(img_path=str(path), img_id=index))


def torch_finder(model: nn.Module) -> Finder:
    """Detections of a PyTorch model."""

    @torch.no_grad()
    def find(item: dict) -> Detections:
        (sample,) = model.test_step(pseudo_collate([copy.copy(item)]))
        found = sample.pred_instances.cpu().numpy()
        return Detections(found.bboxes, found.scores, found.labels, found.get('masks'))

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
    """Let every model look at every image; by name, in their order."""
    found: dict[str, list[Detections]] = {name: [] for name in finders}
    for item in tqdm(images, desc='Images', disable=not progress):
        for name, find in finders.items():
            found[name].append(find(item))
    return found


def agreement(reference: list[Detections], other: list[Detections], score_thr: float) -> Agreement:
    """Compare two models over many images; see :class:`Agreement`."""
    result = Agreement(score_thr)
    for pair in zip(reference, other):
        result.add(*pair)
    return result


def average_precision(cfg: Config, images: TestImages, found: list[Detections]) -> dict[str, float]:
    """What the config's test evaluator says, such as ``coco/bbox_mAP``."""
    metric = METRICS.build(copy.deepcopy(cfg.test_evaluator))
    metric.dataset_meta = images.dataset.metainfo
    for item, detections in zip(images, found):
        sample = item['data_samples'].clone()
        sample.pred_instances = _as_instances(detections)
        metric.process({}, [sample.to_dict()])
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools' tables
        return metric.evaluate(len(found))


def _as_instances(found: Detections) -> InstanceData:
    arrays = {
        key: torch.from_numpy(np.array(value))
        for key, value in vars(found).items()
        if value is not None
    }
    return InstanceData(**arrays)


def compare(
    cfg: Config,
    checkpoint: str | Path,
    model: str | Path,
    backend: str = 'onnxruntime',
    folder: str | Path | None = None,
    score_thr: float | None = None,
    progress: bool = True,
) -> dict:
    """Compare a PyTorch model with what was exported from it.

    Args:
        cfg: Of the PyTorch model.
        checkpoint: Its weights.
        model: The exported file.
        backend: What runs that.
        folder: Images to look at; the config's test data set by default,
            and only that has a precision.
        score_thr: Detections count from this score on; by default all.
        progress: Whether to show it.

    Returns:
        :class:`Agreement`'s entries; ``reference_ap`` and ``other_ap`` with
        all figures of the evaluator, where there is one.
    """
    detector = Detector(model, backend)
    if score_thr is None:
        score_thr = detector.info.score_thr
    images = TestImages(cfg, folder)
    finders = dict(
        reference=torch_finder(build_model(cfg, checkpoint)), other=exported_finder(detector)
    )
    found = find_all(finders, images, progress)
    report = asdict(agreement(found['reference'], found['other'], score_thr))
    if images.dataset is not None:
        for name, detections in found.items():
            report[f'{name}_ap'] = average_precision(cfg, images, detections)
    return report
