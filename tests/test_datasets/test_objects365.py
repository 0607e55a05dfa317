"""Objects365 v1: numbering of the classes, strictness, evaluation."""

import json
import random

import pytest
from mmdet.datasets import Objects365V1Dataset
from mmdet.registry import DATASETS

from mmdet_centernet2.datasets import AnnotationError

from .perfect_predictions import evaluate_perfect

NAMES = Objects365V1Dataset.METAINFO['classes']


def write(folder, categories=None, **changes):
    """Write a file with the published files' jumbled categories."""
    if categories is None:
        categories = [dict(id=i, name=n) for i, n in enumerate(NAMES, 1)]
        random.Random(0).shuffle(categories)
    objects = [(4, 1, [2, 3, 0.5, 9]), (4, 365, [2, 3, 7, 9]), (9, 200, [5, 3, 7, 9])]
    annotations = [
        dict(id=i, image_id=image, category_id=category, bbox=box, area=box[2] * box[3], iscrowd=0)
        for i, (image, category, box) in enumerate(objects, 1)
    ]
    annotations[0].update(changes)
    images = [dict(id=i, file_name=f'{i}.jpg', height=20, width=30) for i in (4, 9)]
    path = folder / 'objects365.json'
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return path


def build(ann_file, **kwargs):
    return DATASETS.build(
        dict(
            type='CenterNet2Objects365Dataset',
            ann_file=str(ann_file),
            data_prefix=dict(img='train/'),
            check_files=False,
            **kwargs,
        )
    )


def test_labels_are_category_ids_minus_one_in_whatever_order(tmp_path):
    dataset = build(write(tmp_path))
    assert len(dataset.metainfo['classes']) == 365
    assert 'tissue ' in dataset.metainfo['classes']
    assert dataset.metainfo['classes'][0] == 'person'
    labels = [
        i['bbox_label']
        for index in range(len(dataset))
        for i in dataset.get_data_info(index)['instances']
    ]
    assert labels == [0, 364, 199]


def test_boxes_that_mmdet_drops_stay(tmp_path):
    path = write(tmp_path)
    assert build(path).get_data_info(0)['instances'][0]['bbox'] == [2, 3, 2.5, 12]
    stock = Objects365V1Dataset(ann_file=str(path), data_prefix=dict(img='train/'))
    assert len(stock.get_data_info(0)['instances']) == 1


def test_faults_are_named(tmp_path):
    with pytest.raises(AnnotationError, match='annotation 1 .*negative size'):
        build(write(tmp_path, bbox=[1, 2, -3, 4]))
    trimmed = [dict(id=i, name=n.strip()) for i, n in enumerate(NAMES, 1)]
    with pytest.raises(AnnotationError, match="no category named .'tissue '"):
        build(write(tmp_path, trimmed))


def test_evaluation_finds_the_categories_by_name(tmp_path):
    path = write(tmp_path)
    dataset = build(path, test_mode=True)
    found = evaluate_perfect(dataset, path, type='CenterNet2CocoMetric')
    assert found['coco/bbox_mAP'] == pytest.approx(1)
    # mmdet's metric takes them in the order of the file
    assert evaluate_perfect(dataset, path)['coco/bbox_mAP'] < 0.5
