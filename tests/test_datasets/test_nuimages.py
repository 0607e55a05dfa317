"""nuImages: categories from 0, run-length masks, evaluation."""

import json

import numpy as np
import pytest
from mmdet.registry import DATASETS, TRANSFORMS
from pycocotools import mask as mask_utils

from mmdet_centernet2.datasets import AnnotationError, NuImagesDataset

from .perfect_predictions import evaluate_perfect

HEIGHT, WIDTH = 40, 60
#: Category ids as the converter numbers them.
NAMES = [
    'car',
    'truck',
    'trailer',
    'bus',
    'construction_vehicle',
    'bicycle',
    'motorcycle',
    'pedestrian',
    'traffic_cone',
    'barrier',
]
BOXES = [(4, 5, 20, 12), (30, 2, 9, 30)]


def mask_of(box):
    x, y, width, height = box
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[y : y + height, x : x + width] = 1
    return mask


def compressed(box):
    rle = mask_utils.encode(np.asfortranarray(mask_of(box)))
    return dict(rle, counts=rle['counts'].decode())


def uncompressed(box):
    runs = np.diff(mask_of(box).ravel('F'), prepend=0, append=2)
    counts = np.diff(np.flatnonzero(runs), prepend=0)
    return dict(size=[HEIGHT, WIDTH], counts=counts.tolist())


def write(folder, encode=compressed):
    image = dict(id=0, file_name='samples/CAM_FRONT/a.jpg', height=HEIGHT, width=WIDTH)
    annotations = [
        dict(
            id=i + 1,
            image_id=0,
            category_id=category,
            bbox=list(box),
            area=box[2] * box[3],
            iscrowd=0,
            segmentation=encode(box),
        )
        for i, (box, category) in enumerate(zip(BOXES, (0, 9)))
    ]
    path = folder / 'nuimages_v1.0-mini.json'
    path.write_text(
        json.dumps(
            dict(
                images=[image],
                annotations=annotations,
                categories=[dict(id=i, name=name) for i, name in enumerate(NAMES)],
            )
        )
    )
    return path


def build(path, **kwargs):
    return DATASETS.build(
        dict(
            type='NuImagesDataset',
            ann_file=str(path),
            data_prefix=dict(img='data/nuimages/'),
            check_files=False,
            **kwargs,
        )
    )


def test_classes_and_colours():
    meta = NuImagesDataset.METAINFO
    assert list(meta['classes']) == NAMES
    assert len(set(meta['palette'])) == 10


@pytest.mark.parametrize('encode', [compressed, uncompressed])
def test_category_zero_and_masks(tmp_path, encode):
    dataset = build(write(tmp_path, encode), filter_cfg=dict(filter_empty_gt=True))
    info = dataset.get_data_info(0)
    assert info['img_path'] == 'data/nuimages/samples/CAM_FRONT/a.jpg'
    assert [i['bbox_label'] for i in info['instances']] == [0, 9]
    load = TRANSFORMS.build(dict(type='LoadAnnotations', with_bbox=True, with_mask=True))
    masks = load(dict(info, ori_shape=(HEIGHT, WIDTH)))['gt_masks'].masks
    np.testing.assert_array_equal(masks, [mask_of(box) for box in BOXES])


def test_evaluation_of_boxes_and_masks(tmp_path):
    path = write(tmp_path)
    result = evaluate_perfect(build(path, test_mode=True), path, metric=['bbox', 'segm'])
    assert result['coco/bbox_mAP'] == result['coco/segm_mAP'] == 1


def test_a_subset_starting_at_zero_is_an_image_with_objects(tmp_path):
    dataset = build(
        write(tmp_path), metainfo=dict(classes=('car',)), filter_cfg=dict(filter_empty_gt=True)
    )
    assert len(dataset) == 1
    assert len(dataset.get_data_info(0)['instances']) == 1


def test_faults_are_named(tmp_path):
    path = write(tmp_path)
    content = json.loads(path.read_text())
    content['annotations'][0]['category_id'] = 10
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match='unknown category 10'):
        build(path)
