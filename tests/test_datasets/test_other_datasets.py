"""Objects365 v1 and nuImages: numbering of the classes, masks, evaluation."""

import json
import random

import numpy as np
import pytest
from mmdet.datasets import Objects365V1Dataset
from mmdet.registry import DATASETS, TRANSFORMS
from pycocotools import mask as mask_utils

from mmdet_centernet2.datasets import AnnotationError, NuImagesDataset

from .exports import evaluate_perfect

HEIGHT, WIDTH = 40, 60
OBJECTS365 = Objects365V1Dataset.METAINFO['classes']
#: As the converter numbers them, from 0.
NUIMAGES = (
    'car truck trailer bus construction_vehicle bicycle motorcycle pedestrian traffic_cone barrier'
).split()
# image, category and box
OF_365 = [(4, 1, [2, 3, 0.5, 9]), (4, 365, [2, 3, 7, 9]), (9, 200, [5, 3, 7, 9])]
OF_NUIMAGES = [(0, 0, [4, 5, 20, 12]), (0, 9, [30, 2, 9, 30])]


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


def write(folder, objects, categories, encode=None):
    annotations = [
        dict(id=i, image_id=image, category_id=category, bbox=box, area=9, iscrowd=0)
        for i, (image, category, box) in enumerate(objects)
    ]
    for ann in annotations if encode else ():
        ann['segmentation'] = encode(ann['bbox'])
    images = [
        dict(id=i, file_name=f'samples/{i}.jpg', height=HEIGHT, width=WIDTH)
        for i in sorted({image for image, _, _ in objects})
    ]
    path = folder / 'annotations.json'
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return path


def write_365(folder, objects=OF_365, names=OBJECTS365):
    """Categories are jumbled, as in the published files."""
    categories = [dict(id=i, name=n) for i, n in enumerate(names, 1)]
    random.Random(0).shuffle(categories)
    return write(folder, objects, categories)


def write_nuimages(folder, encode=compressed):
    categories = [dict(id=i, name=n) for i, n in enumerate(NUIMAGES)]
    return write(folder, OF_NUIMAGES, categories, encode)


def build(kind, path, **kwargs):
    options = dict(data_prefix=dict(img='data/'), check_files=False, **kwargs)
    return DATASETS.build(dict(type=kind, ann_file=str(path), **options))


def labels(dataset):
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [i['bbox_label'] for info in infos for i in info['instances']]


def test_labels_of_objects365_follow_the_names(tmp_path):
    path = write_365(tmp_path)
    dataset = build('CenterNet2Objects365Dataset', path)
    assert labels(dataset) == [0, 364, 199]
    assert 'tissue ' in dataset.metainfo['classes']
    found = evaluate_perfect(dataset, path)
    assert found['coco/bbox_mAP'] == pytest.approx(1)
    # mmdet's metric takes them in the order of the file
    assert evaluate_perfect(dataset, path, 'CocoMetric')['coco/bbox_mAP'] < 0.5


def test_boxes_that_mmdet_drops_stay(tmp_path):
    path = write_365(tmp_path)
    dataset = build('CenterNet2Objects365Dataset', path)
    assert dataset.get_data_info(0)['instances'][0]['bbox'] == [2, 3, 2.5, 12]
    stock = Objects365V1Dataset(ann_file=str(path), data_prefix=dict(img='train/'))
    assert len(stock.get_data_info(0)['instances']) == 1


def test_faults_are_named(tmp_path):
    path = write_365(tmp_path, [(4, 1, [1, 2, -3, 4])])
    with pytest.raises(AnnotationError, match='annotation 0 .*negative size'):
        build('CenterNet2Objects365Dataset', path)
    path = write_365(tmp_path, names=[name.strip() for name in OBJECTS365])
    with pytest.raises(AnnotationError, match="no category named .'tissue '"):
        build('CenterNet2Objects365Dataset', path)


def test_classes_and_colours_of_nuimages():
    meta = NuImagesDataset.METAINFO
    assert list(meta['classes']) == NUIMAGES
    assert len(set(meta['palette'])) == 10


@pytest.mark.parametrize('encode', [compressed, uncompressed])
def test_category_zero_and_masks(tmp_path, encode):
    path = write_nuimages(tmp_path, encode)
    dataset = build('NuImagesDataset', path, filter_cfg=dict(filter_empty_gt=True))
    assert labels(dataset) == [0, 9]
    info = dataset.get_data_info(0)
    assert info['img_path'] == 'data/samples/0.jpg'
    load = TRANSFORMS.build(dict(type='LoadAnnotations', with_bbox=True, with_mask=True))
    masks = load(dict(info, ori_shape=(HEIGHT, WIDTH)))['gt_masks'].masks
    np.testing.assert_array_equal(masks, [mask_of(box) for _, _, box in OF_NUIMAGES])
    found = evaluate_perfect(dataset, path, metric=['bbox', 'segm'])
    assert found['coco/bbox_mAP'] == found['coco/segm_mAP'] == pytest.approx(1)


@pytest.mark.parametrize('with_mask', [True, False])
def test_masks_are_kept_if_the_pipeline_loads_them(tmp_path, with_mask):
    steps = [dict(type='LoadAnnotations', with_bbox=True, with_mask=with_mask)]
    dataset = build('NuImagesDataset', write_nuimages(tmp_path), pipeline=steps)
    assert all(('mask' in i) == with_mask for i in dataset.get_data_info(0)['instances'])


def test_a_subset_starting_at_zero_is_an_image_with_objects(tmp_path):
    options = dict(metainfo=dict(classes=('car',)), filter_cfg=dict(filter_empty_gt=True))
    assert labels(build('NuImagesDataset', write_nuimages(tmp_path), **options)) == [0]
