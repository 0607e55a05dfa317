"""Reading pictures for training, and evaluation."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import mmcv.transforms
import numpy as np
import torch
from mmdet.registry import METRICS
from mmengine.logging import MMLogger

from mmdet_centernet2.datasets.transforms import CheckedLoadImageFromFile, EfficientDetResizeCrop
from mmdet_centernet2.evaluation.faster_eval import BACKENDS

from ..scenes import random_boxes, random_labels
from ..section import Context, Row, section

#: Height and width, side of the crop: COCO's, nuImages', and a camera's.
PICTURES = (((480, 640), 640), ((480, 640), 1280), ((900, 1600), 640), ((3000, 4000), 640))
SIZE = PICTURES[0][0]


def write_jpeg(path: Path, size: Sequence[int], seed: int) -> None:
    """Write coloured clouds, no easier to decode than a photograph."""
    rng = np.random.RandomState(seed)
    picture = sum(  # coarse clouds are the strongest
        cv2.resize(rng.rand(cells, cells, 3), size[::-1]) / cells**0.5 for cells in (4, 16, 64, 256)
    )
    cv2.imwrite(str(path), picture * 255 / picture.max(), [cv2.IMWRITE_JPEG_QUALITY, 90])


def _read(paths: Sequence[Path], *transforms: Callable) -> None:
    """Put all pictures through a pipeline, with the same random draws."""
    np.random.seed(0)
    for path in paths:
        results = dict(img_path=str(path))
        for transform in transforms:
            results = transform(results)


@section(
    'pipeline',
    'Reading JPEGs and cropping them as EfficientDet does, factors 0.1 to 2, '
    "one process. *Plain* decodes with mmcv's reader, resizes everything and "
    'then crops; ours resizes what the crop leaves, without an array of the '
    'whole picture. Decoding is the same in both.',
)
def pipeline(context: Context) -> list[Row]:
    rows, count = [], context.pick(16, 4)
    load = mmcv.transforms.LoadImageFromFile(imdecode_backend='pillow')
    lazy = CheckedLoadImageFromFile(imdecode_backend='pillow', lazy=True)
    with tempfile.TemporaryDirectory() as folder:
        for size, crop in context.pick(PICTURES, PICTURES[:1]):
            paths = [Path(folder, f'{size[0]}-{i}.jpg') for i in range(count)]
            for seed, path in enumerate(paths):
                if not path.exists():
                    write_jpeg(path, size, seed)
            all_of_it = EfficientDetResizeCrop(crop, crop_first=False)
            crop_first = EfficientDetResizeCrop(crop)
            rows += context.compare(
                f'{count} JPEGs of {size[0]} x {size[1]}, crop {crop}',
                dict(
                    plain=partial(_read, paths, load, all_of_it),
                    ours=partial(_read, paths, lazy, crop_first),
                ),
            )
    for row in rows:
        row.numbers['images/s'] = count / row.timing.median
    return rows


def annotations(num_images: int, num_classes: int, num_objects: int) -> dict:
    """Content of an annotation file in the format of COCO and LVIS."""
    entries = []
    for image in range(num_images):
        boxes = random_boxes(num_objects, SIZE, image)
        labels = random_labels(num_objects, num_classes, image)
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist()):
            entries.append(
                dict(
                    id=len(entries) + 1,
                    image_id=image,
                    category_id=label + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=0,
                )
            )
    return dict(
        annotations=entries,
        images=[
            dict(
                id=image,
                file_name=f'{image}.jpg',
                height=SIZE[0],
                width=SIZE[1],
                neg_category_ids=[1],
                not_exhaustive_category_ids=[],
            )
            for image in range(num_images)
        ],
        categories=[
            dict(id=i + 1, name=str(i), frequency='rcf'[i % 3], image_count=1, instance_count=1)
            for i in range(num_classes)
        ],
    )


def detections(image: int, num: int, num_classes: int, num_objects: int) -> dict:
    """What a metric is given: the objects, moved by some pixels, and more."""
    boxes = random_boxes(num_objects, SIZE, image)
    labels = random_labels(num_objects, num_classes, image)
    others = num - num_objects
    generator = torch.Generator().manual_seed(image)
    moved = boxes + 4 * torch.randn(boxes.shape, generator=generator)
    found = dict(
        bboxes=torch.cat([moved, random_boxes(others, SIZE, image + 10**6)]),
        scores=torch.rand(num, generator=generator),
        labels=torch.cat(
            [  # of classes that are there: LVIS ignores others
                labels,
                labels[random_labels(others, num_objects, image)],
            ]
        ),
    )
    return dict(img_id=image, ori_shape=SIZE, pred_instances=found)


@contextlib.contextmanager
def _silence():
    """Neither the packages' tables nor the metrics'."""
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _evaluator(
    metric_type: str, file: Path, backend: str, num_images: int, num_detections: int, *objects: int
) -> Callable[[], dict]:
    """A call that evaluates all detections of ``file``."""
    with _silence():
        metric = METRICS.build(dict(type=metric_type, ann_file=str(file), backend=backend))
        metric.dataset_meta = dict(classes=[str(i) for i in range(objects[0])])
        for image in range(num_images):
            metric.process({}, [detections(image, num_detections, *objects)])
    results = metric.results

    def evaluate() -> dict[str, float]:
        with _silence():
            return metric.compute_metrics(list(results))

    return evaluate


@section(
    'evaluation',
    'Evaluation of boxes, from the collected detections to the figures: '
    "`backend='pycocotools'` (for LVIS the package lvis, without its visits "
    "to empty pairs) against `backend='faster_coco_eval'`.",
)
def evaluation(context: Context) -> list[Row]:
    rows = []
    for name, metric, key, images, num, *objects in (
        ('COCO', 'CenterNet2CocoMetric', 'bbox_mAP', context.pick(300, 10), 100, 80, 7),
        ('LVIS', 'CenterNet2LVISMetric', 'bbox_AP', context.pick(100, 5), 300, 1203, 11),
    ):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f'{name}.json')
            file.write_text(json.dumps(annotations(images, *objects)))
            calls = {
                backend: _evaluator(metric, file, backend, images, num, *objects)
                for backend in BACKENDS
            }
            timed = context.compare(
                f'{name}, {images} images, {num} detections each', calls, max_rounds=3
            )
            figures = [calls[row.contestant]() for row in timed]
        for row, found in zip(timed, figures):
            row.numbers['AP'] = found[key]
        timed[-1].numbers['largest difference of a figure'] = max(
            abs(value - figures[-1][key])
            for key, value in figures[0].items()
            if isinstance(value, float)
        )
        rows += timed
    return rows
