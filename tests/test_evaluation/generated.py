"""Generated annotations and detections, in COCO and in LVIS format."""

import json

import numpy as np
import torch
from mmdet.registry import METRICS
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

SIZE = (300, 400)  # height and width of every image
FREQUENCIES = 'rcf'


def ground_truth(seed, num_images=12, num_categories=7, most=6, lvis=False, masks=False):
    """A data set as the parsed file.

    Boxes are of all three area ranges. The last category and the last image
    have no object. COCO's has crowds; LVIS' has negative and not exhaustively
    annotated categories.
    """
    random = np.random.RandomState(seed)
    annotations = []
    for image in range(1, num_images):
        for _ in range(random.randint(most + 1)):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image,
                    category_id=int(random.randint(1, num_categories)),
                    **_shape(_box(random), masks),
                )
            )
    if not lvis:
        for ann in annotations:
            ann['iscrowd'] = int(random.rand() < 0.15)
    images = [
        dict(id=i, height=SIZE[0], width=SIZE[1], file_name=f'{i}.jpg')
        for i in range(1, num_images + 1)
    ]
    categories = [
        dict(id=i, name=f'thing_{i}', frequency=FREQUENCIES[i % 3])
        for i in range(1, num_categories + 1)
    ]
    content = dict(images=images, annotations=annotations, categories=categories)
    if lvis:
        _federate(content, random)
    return content


def detections_for(content, seed, per_image=20, masks=False):
    """Detections near objects and elsewhere; many scores are equal."""
    random = np.random.RandomState(seed + 1000)
    by_image = {image['id']: [] for image in content['images']}
    for ann in content['annotations']:
        by_image[ann['image_id']].append(ann)
    num_categories = len(content['categories'])
    detections = []
    for image, objects in by_image.items():
        for _ in range(random.randint(per_image + 1)):
            box = _box(random)
            category = int(random.randint(1, num_categories + 1))
            if objects and random.rand() < 0.7:
                found = objects[random.randint(len(objects))]
                spread = np.array(found['bbox'][2:] * 2) * 0.1
                box = np.abs(found['bbox'] + random.randn(4) * spread)
                box[2:] = np.maximum(box[2:], 1)
                if random.rand() < 0.9:
                    category = found['category_id']
            shape = _shape(box, masks)
            del shape['area']
            detections.append(
                dict(
                    image_id=image,
                    category_id=category,
                    score=float(random.rand().__round__(random.randint(1, 4))),
                    **shape,
                )
            )
    return detections


def _box(random):
    """x, y, width, height in pixels; small, medium or large."""
    side = random.choice([20, 60, 200])
    size = random.uniform(0.3, 1, 2) * side
    corner = random.uniform(0, 1, 2) * (np.array(SIZE[::-1]) - size)
    return np.concatenate([corner, size])


def _shape(box, masks):
    box = [float(v) for v in box]
    if not masks:
        return dict(bbox=box, area=box[2] * box[3])
    x, y, width, height = (int(v) for v in box)
    mask = np.zeros(SIZE, np.uint8, order='F')
    mask[y : y + height + 1, x : x + width + 1] = 1
    mask[y : y + height // 2, x : x + width // 2] = 0  # not just the box
    rle = mask_utils.encode(mask)
    area = float(mask_utils.area(rle))
    return dict(bbox=box, area=area, segmentation=dict(rle, counts=rle['counts'].decode()))


def _federate(content, random):
    categories = [c['id'] for c in content['categories']]
    for image in content['images']:
        present = {
            ann['category_id'] for ann in content['annotations'] if ann['image_id'] == image['id']
        }
        absent = [c for c in categories if c not in present]
        image['neg_category_ids'] = [c for c in absent if random.rand() < 0.4]
        image['not_exhaustive_category_ids'] = [c for c in categories if random.rand() < 0.3]


def samples(content, dets, masks=False):
    """What a detector would hand to a metric."""
    labels = {category['id']: i for i, category in enumerate(content['categories'])}
    for image in content['images']:
        own = [d for d in dets if d['image_id'] == image['id']]
        boxes = torch.tensor([d['bbox'] for d in own]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = dict(
            bboxes=boxes,
            scores=torch.tensor([d['score'] for d in own]),
            labels=torch.tensor([labels[d['category_id']] for d in own], dtype=torch.long),
        )
        if masks:
            decoded = [mask_utils.decode(d['segmentation']) for d in own]
            found['masks'] = torch.from_numpy(np.array(decoded, bool).reshape(-1, *SIZE))
        size = image['height'], image['width']
        yield dict(img_id=image['id'], ori_shape=size, pred_instances=InstanceData(**found))


def build(kind, folder, content, dets, masks=False, **kwargs):
    """A metric that has seen the detections."""
    path = folder / 'annotations.json'
    path.write_text(json.dumps(content))
    metric = METRICS.build(dict(type=kind, ann_file=str(path), **kwargs))
    metric.dataset_meta = dict(classes=[c['name'] for c in content['categories']])
    metric.process({}, list(samples(content, dets, masks)))
    return metric


def evaluate(kind, folder, content, dets, masks=False, **kwargs):
    metric = build(kind, folder, content, dets, masks, **kwargs)
    return metric.evaluate(len(content['images']))
