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
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets.transforms import PackDetInputs as MMDetPackDetInputs
from mmdet.registry import METRICS, TRANSFORMS
from mmengine.logging import MMLogger

from mmdet_centernet2.datasets.transforms import (
    CheckedLoadImageFromFile,
    EfficientDetResizeCrop,
    PackDetInputs,
)

from ..scenes import random_boxes, random_labels
from ..section import Context, Row, section

#: Height and width in pixels of COCO's photographs.
SIZE = (480, 640)
#: Those, nuImages' and a camera's, and the side of the crop; None for no crop.
PICTURES = ((SIZE, None), (SIZE, 640), (SIZE, 1280), ((900, 1600), 640), ((3000, 4000), 640))


def write_jpeg(path: Path, size: Sequence[int], seed: int) -> None:
    """Write coloured clouds, no easier to decode than a photograph."""
    rng = np.random.RandomState(seed)
    picture = sum(  # coarse clouds are the strongest
        cv2.resize(rng.rand(cells, cells, 3), size[::-1]) / cells**0.5 for cells in (4, 16, 64, 256)
    )
    cv2.imwrite(str(path), picture * 255 / picture.max(), [cv2.IMWRITE_JPEG_QUALITY, 90])


def _short_edge(backend: str) -> Callable:
    """Resizing of the ms-1x configs."""
    options = dict(scales=[640, 672, 704, 736, 768, 800], max_size=1333)
    if backend == 'antialias':
        options |= dict(resize_type='AntialiasShortestEdge')
    else:
        options |= dict(resize_type='ResizeShortestEdge', backend=backend)
    return TRANSFORMS.build(dict(options, type='RandomChoiceResize'))


def _read(paths: Sequence[Path], *transforms: Callable) -> None:
    """Put all pictures through a pipeline, with the same random draws."""
    np.random.seed(0)
    for path in paths:
        results = dict(img_path=str(path))
        for transform in transforms:
            results = transform(results)


@section(
    'pipeline',
    'From a JPEG to the tensor for training, in one process: reading, resizing, flipping, '
    "packing. *cv2* is mmdet's default backend for both decoding and resizing; *pillow* does "
    'the same with Pillow, whose antialiasing the original was trained with; ours gives its '
    'pixels to one grey level.',
)
def pipeline(context: Context) -> list[Row]:
    rows, count = [], context.pick(16, 2)
    flip = TRANSFORMS.build(dict(type='RandomFlip', prob=0.5))
    kinds = {  # how to read, resize and crop, pack
        'cv2': (LoadImageFromFile(), 'cv2', MMDetPackDetInputs()),
        'pillow': (LoadImageFromFile(imdecode_backend='pillow'), 'pillow', MMDetPackDetInputs()),
        'ours': (CheckedLoadImageFromFile(imdecode_backend='pillow'), 'antialias', PackDetInputs()),
    }
    with tempfile.TemporaryDirectory() as folder:
        for size, crop in context.pick(PICTURES, PICTURES[:2]):
            paths = [Path(folder, f'{size[0]}-{i}.jpg') for i in range(count)]
            for seed, path in enumerate(paths):
                if not path.exists():
                    write_jpeg(path, size, seed)
            calls = {}
            for kind, (load, backend, pack) in kinds.items():
                if crop:
                    resize = EfficientDetResizeCrop(crop, backend=backend)
                else:
                    resize = _short_edge(backend)
                calls[kind] = partial(_read, paths, load, resize, flip, pack)
            what = f'crop {crop}' if crop else 'short edge 640 to 800'
            rows += context.compare(f'{size[0]} x {size[1]}, {what}', calls)
    for row in rows:
        row.numbers['images/s'] = count / row.timing.median
    return rows


def annotations(num_images: int, num_classes: int, num_objects: int) -> dict:
    """Content of an annotation file in the format of COCO and LVIS."""
    common = dict(height=SIZE[0], width=SIZE[1])
    common |= dict(neg_category_ids=[1], not_exhaustive_category_ids=[])  # of LVIS
    images = [dict(common, id=i, file_name=f'{i}.jpg') for i in range(num_images)]
    entries = []
    for image in range(num_images):
        boxes = random_boxes(num_objects, SIZE, image)
        boxes[:, 2:] -= boxes[:, :2]
        labels = random_labels(num_objects, num_classes, image)
        for box, label in zip(boxes.tolist(), labels.tolist()):
            about = dict(id=len(entries) + 1, image_id=image, category_id=label + 1, iscrowd=0)
            entries.append(dict(about, bbox=box, area=box[2] * box[3]))
    counts = dict(image_count=1, instance_count=1)
    categories = [
        dict(counts, id=i + 1, name=str(i), frequency='rcf'[i % 3]) for i in range(num_classes)
    ]
    return dict(images=images, annotations=entries, categories=categories)


def detections(image: int, num: int, num_classes: int, num_objects: int) -> dict:
    """What a metric is given: the objects, moved by some pixels, and more."""
    boxes = random_boxes(num_objects, SIZE, image)
    labels = random_labels(num_objects, num_classes, image)
    others = num - num_objects
    generator = torch.Generator().manual_seed(image)
    boxes += 4 * torch.randn(boxes.shape, generator=generator)
    found = dict(
        bboxes=torch.cat([boxes, random_boxes(others, SIZE, image + 10**6)]),
        scores=torch.rand(num, generator=generator),
        # of classes that are there: LVIS ignores others
        labels=torch.cat([labels, labels[random_labels(others, num_objects, image)]]),
    )
    return dict(img_id=image, ori_shape=SIZE, pred_instances=found)


@contextlib.contextmanager
def _silence():
    """Neither the packages' tables nor the metrics'."""
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@_silence()
def _evaluator(
    metric_type: str, file: Path, num_images: int, num_detections: int, *objects: int
) -> Callable[[], dict]:
    """A call that evaluates all detections of ``file``."""
    metric = METRICS.build(dict(type=metric_type, ann_file=str(file)))
    metric.dataset_meta = dict(classes=[str(i) for i in range(objects[0])])
    for image in range(num_images):
        metric.process({}, [detections(image, num_detections, *objects)])
    results = metric.results
    return _silence()(lambda: metric.compute_metrics(list(results)))


@section(
    'evaluation',
    "Evaluation of boxes, from the collected detections to the figures: mmdet's metrics, "
    'which use pycocotools and lvis, and ours.',
)
def evaluation(context: Context) -> list[Row]:
    np.float = float  # in this process only: lvis 0.5.3 needs it, numpy 2 has it not
    rows = []
    for name, metric, key, images, num, *objects in (
        ('COCO', 'CocoMetric', 'bbox_mAP', context.pick(300, 10), 100, 80, 7),
        ('LVIS', 'LVISMetric', 'bbox_AP', context.pick(100, 5), 300, 1203, 11),
    ):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f'{name}.json')
            file.write_text(json.dumps(annotations(images, *objects)))
            kinds = (metric, f'CenterNet2{metric}')
            calls = {kind: _evaluator(kind, file, images, num, *objects) for kind in kinds}
            work = f'{name}, {images} images, {num} detections each'
            timed = context.compare(work, calls, max_rounds=3)
            figures = [calls[row.contestant]() for row in timed]
        for row, found in zip(timed, figures):
            row.numbers['AP'] = found[key]
        theirs, mine = figures
        differences = [abs(v - mine[k]) for k, v in theirs.items() if isinstance(v, float)]
        timed[-1].numbers['largest difference (mmdet rounds to 0.001)'] = max(differences)
        rows += timed
    return rows
