"""A small data set, written and broken as labelling tools do, and read back.

Four pictures of 160x120 pixels with three objects of two classes each.
"""

import json
import random

import numpy as np
import torch
from mmdet.registry import DATASETS, METRICS
from PIL import Image

from mmdet_centernet2.evaluation.coco_metric import run_lengths

WIDTH, HEIGHT, NUM_IMAGES, NUM_OBJECTS = 160, 120, 4, 12
IDS = ('id', 'image_id', 'category_id')
PIPELINE = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs'),
]


def boxes_of(seed):
    rng = random.Random(seed)
    for number in range(3):
        width, height = rng.randrange(24, 50), rng.randrange(24, 50)
        yield (
            number % 2,
            [
                rng.randrange(2, WIDTH - width - 2),
                rng.randrange(2, HEIGHT - height - 2),
                width,
                height,
            ],
        )


def content(split='train', lvis=False):
    """The annotation file of a split, as it should be."""
    js = dict(
        images=[],
        annotations=[],
        categories=[dict(id=i, name=n, frequency='f') for i, n in enumerate(('cat', 'dog'), 1)],
    )
    for index in range(NUM_IMAGES):
        image = dict(id=index + 1, file_name=f'{split}_{index}.png', width=WIDTH, height=HEIGHT)
        if lvis:
            image['coco_url'] = 'http://images.cocodataset.org/' + image['file_name']
            image.update(neg_category_ids=[], not_exhaustive_category_ids=[])
        js['images'].append(image)
        for label, (x, y, w, h) in boxes_of(index):
            js['annotations'].append(
                dict(
                    id=len(js['annotations']) + 1,
                    image_id=index + 1,
                    category_id=label + 1,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                )
            )
    return js


def write(folder, change=None, split='train', lvis=False):
    """Write pictures and annotations; ``change(content, folder)`` breaks."""
    images = folder / 'images'
    images.mkdir(exist_ok=True)
    js = content(split, lvis)
    for image in js['images']:
        Image.new('RGB', (WIDTH, HEIGHT), (60, 90, 40)).save(images / image['file_name'])
    if change is not None:
        change(js, folder)
    (folder / f'{split}.json').write_text(json.dumps(js))


def read(
    folder,
    split='train',
    kind='CenterNet2CocoDataset',
    classes=('cat', 'dog'),
    pipeline=PIPELINE,
    **kwargs,
):
    """The data set as training reads it."""
    return DATASETS.build(
        dict(
            type=kind,
            data_root=f'{folder}/',
            ann_file=f'{split}.json',
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=classes),
            filter_cfg=dict(filter_empty_gt=True),
            pipeline=pipeline,
            **kwargs,
        )
    )


def evaluate_perfect(dataset, ann_file, kind='CenterNet2CocoMetric', **kwargs):
    """Figures of a data set's own objects as detections."""
    metric = METRICS.build(dict(type=kind, ann_file=str(ann_file), **kwargs))
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        size = info['height'], info['width']
        seen = [i for i in info['instances'] if not i['ignore_flag']]
        boxes = np.array([i['bbox'] for i in seen], np.float32).reshape(-1, 4)
        found = dict(
            bboxes=torch.from_numpy(boxes),
            labels=torch.tensor([i['bbox_label'] for i in seen]),
            scores=torch.ones(len(seen)),
        )
        if 'segm' in metric.metrics:
            found['masks'] = [run_lengths(i['mask'], size) for i in seen]
        metric.process({}, [dict(img_id=info['img_id'], ori_shape=size, pred_instances=found)])
    return metric.evaluate(len(dataset))


def score(dataset, ann_file, kind='CenterNet2CocoMetric', **kwargs):
    """Objects that reach training, and AP of the annotations themselves."""
    objects = sum(len(sample['data_samples'].gt_instances) for sample in dataset)
    found = evaluate_perfect(dataset, ann_file, kind, **kwargs)
    return objects, found.get('coco/bbox_mAP', found.get('lvis/bbox_AP'))
