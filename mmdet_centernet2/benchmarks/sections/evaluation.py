"""Evaluation with the usual packages and with faster-coco-eval."""
from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

import torch
from mmdet.registry import METRICS
from mmengine.logging import MMLogger

from mmdet_centernet2.benchmarks.scenes import random_boxes, random_labels
from mmdet_centernet2.benchmarks.section import Context, Row, Section
from mmdet_centernet2.evaluation.faster_eval import BACKENDS

SIZE = (480, 640)


class Case(NamedTuple):
    """A data set and its detections, at random.

    Args:
        metric (str): That evaluates it.
        num_classes (int): Of the data set.
        objects (int): In each image.
        detections (int): In each image; the first of them are the objects,
            moved by some pixels.
    """

    metric: str
    num_classes: int
    objects: int
    detections: int


CASES = {
    'COCO': Case('CenterNet2CocoMetric', 80, 7, 100),
    'LVIS': Case('CenterNet2LVISMetric', 1203, 11, 300),
}


def annotations(case: Case, num_images: int) -> dict:
    """Content of an annotation file in the format of COCO and LVIS."""
    images, entries = [], []
    for image in range(1, num_images + 1):
        boxes, labels = _objects(case, image)
        images.append(dict(
            id=image, file_name=f'{image}.jpg', height=SIZE[0], width=SIZE[1],
            neg_category_ids=[int(labels[0]) % case.num_classes + 1],
            not_exhaustive_category_ids=[]))
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist()):
            entries.append(dict(
                id=len(entries) + 1, image_id=image, category_id=label + 1,
                bbox=[x1, y1, x2 - x1, y2 - y1],
                area=(x2 - x1) * (y2 - y1), iscrowd=0))
    categories = [
        dict(id=i + 1, name=str(i), frequency='rcf'[i % 3], image_count=1,
             instance_count=1) for i in range(case.num_classes)
    ]
    return dict(images=images, annotations=entries, categories=categories)


def _objects(case: Case, image: int) -> Tuple[torch.Tensor, torch.Tensor]:
    return (random_boxes(case.objects, SIZE, image),
            random_labels(case.objects, case.num_classes, image))


def detections(case: Case, image: int) -> dict:
    """What a metric's ``process`` is given for an image."""
    boxes, labels = _objects(case, image)
    others = case.detections - case.objects
    generator = torch.Generator().manual_seed(image)
    moved = boxes + 4 * torch.randn(boxes.shape, generator=generator)
    found = dict(
        bboxes=torch.cat([moved, random_boxes(others, SIZE, image + 10**6)]),
        # of classes that are there: LVIS looks at no others
        labels=torch.cat([
            labels, labels[random_labels(others, case.objects, image)]
        ]),
        scores=torch.rand(case.detections, generator=generator))
    return dict(img_id=image, ori_shape=SIZE, pred_instances=found)


def _evaluator(case: Case, file: Path, backend: str,
               num_images: int) -> Callable[[], Dict[str, float]]:
    """A call that evaluates all detections; quiet."""
    with _silence():
        metric = METRICS.build(
            dict(type=case.metric, ann_file=str(file), backend=backend))
        metric.dataset_meta = dict(
            classes=[str(i) for i in range(case.num_classes)])
        for image in range(1, num_images + 1):
            metric.process({}, [detections(case, image)])
    results = metric.results

    def evaluate() -> Dict[str, float]:
        with _silence():
            return metric.compute_metrics(list(results))

    return evaluate


@contextlib.contextmanager
def _silence():
    """Neither the packages' tables nor the metrics'."""
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _compare(context: Context, name: str, num_images: int,
             folder: Path) -> List[Row]:
    case, file = CASES[name], folder / f'{name}.json'
    file.write_text(json.dumps(annotations(case, num_images)))
    context.say(f'{name}: {num_images} images')
    calls = {
        backend: _evaluator(case, file, backend, num_images)
        for backend in BACKENDS
    }
    rows = context.compare(
        f'{name}, {num_images} images, {case.detections} detections each',
        calls, rounds=min(context.rounds, 3))
    usual, faster = (calls[backend]() for backend in BACKENDS)
    for row in rows:
        figures = usual if row.contestant == BACKENDS[0] else faster
        row.numbers['AP'] = figures['bbox_mAP' if name == 'COCO' else
                                    'bbox_AP']
    rows[-1].numbers['largest difference of a figure'] = max(
        abs(usual[key] - faster[key]) for key in usual
        if isinstance(usual[key], float))
    return rows


def run(context: Context) -> List[Row]:
    """COCO and LVIS."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            row for name, num_images in
            (('COCO', context.pick(300, 10)), ('LVIS', context.pick(100, 5)))
            for row in _compare(context, name, num_images, Path(folder))
        ]


SECTION = Section(
    'evaluation',
    'Evaluation of boxes, from the collected detections to the figures: '
    '`backend=\'pycocotools\'` (for LVIS the package lvis, without its visits '
    'to empty pairs) against `backend=\'faster_coco_eval\'`.', run)
