"""Reading COCO-format annotations as the original does."""

import copy
import json
import math

import pytest
from mmdet.registry import DATASETS

from mmdet_centernet2.datasets import AnnotationError, annotation_file

ANNOTATIONS = dict(
    images=[
        dict(id=1, file_name='a.png', height=20, width=30),
        dict(id=2, file_name='b.png', height=20, width=30),
        dict(id=3, file_name='c.png', height=20, width=30),
    ],
    categories=[dict(id=7, name='cat'), dict(id=9, name='dog')],
    annotations=[
        dict(id=1, image_id=1, category_id=9, bbox=[1, 2, 0.5, 0.25], area=1),
        dict(id=2, image_id=1, category_id=7, bbox=[-4, 2, 9, 9], area=81),
        dict(id=3, image_id=2, category_id=7, bbox=[1, 1, 5, 5], area=25, iscrowd=1),
    ],
)


def build(tmp_path, content=None, classes=('cat', 'dog'), **kwargs):
    ann_file = tmp_path / 'ann.json'
    if not isinstance(content, str):
        content = json.dumps(content or ANNOTATIONS)
    ann_file.write_text(content)
    return DATASETS.build(
        dict(
            type='CenterNet2CocoDataset',
            ann_file=str(ann_file),
            data_prefix=dict(img=str(tmp_path)),
            metainfo=dict(classes=classes),
            filter_cfg=dict(filter_empty_gt=True),
            serialize_data=False,
            **{'check_files': False, **kwargs},
        )
    )


def changed(index=0, **fields):
    content = copy.deepcopy(ANNOTATIONS)
    content['annotations'][index].update(fields)
    return content


def test_keeps_small_and_outside_boxes_and_only_images_with_objects(tmp_path):
    dataset = build(tmp_path)
    assert [info['img_id'] for info in dataset.data_list] == [1]
    instances = dataset.data_list[0]['instances']
    assert [i['bbox'] for i in instances] == [[1, 2, 1.5, 2.25], [-4, 2, 5, 11]]
    assert [i['bbox_label'] for i in instances] == [1, 0]


@pytest.mark.parametrize(
    'bbox, message',
    [
        ([1, 2, -3, 4], 'annotation 1 of image 1 .*negative size'),
        ([1, 2, 0, 4], 'no area.*bad_boxes="drop"'),
        ([40, 2, 3, 4], 'image of 30x20; it lies outside of the image'),
        *(
            (box, 'annotation 1 of image 1 .*four finite numbers')
            for box in (
                None,
                [1, 2, 3],
                [1, 2, 3, 4, 0.5],
                [[1, 2, 3, 4]],
                '1 2 3 4',
                dict(x=1, y=2, width=3, height=4),
                *([value, 2, 3, 4] for value in (math.nan, math.inf, '1', None, True, 10**400)),
            )
        ),
    ],
)
def test_impossible_boxes_are_named(tmp_path, bbox, message):
    with pytest.raises(AnnotationError, match=message):
        build(tmp_path, changed(bbox=bbox))


@pytest.mark.parametrize('bbox', [[1, 2, 0, 4], [40, 2, 3, 4], None])
def test_bad_boxes_can_be_dropped_and_are_listed(tmp_path, bbox, monkeypatch):
    lines = []
    monkeypatch.setattr(annotation_file, 'print_log', lambda text, *args: lines.append(text))
    dataset = build(tmp_path, changed(bbox=bbox), bad_boxes='drop')
    assert [i['bbox'] for i in dataset.data_list[0]['instances']] == [[-4, 2, 5, 11]]
    (said,) = (line for line in lines if 'left out' in line)
    assert '1 of 3 annotations cannot be right, 1 are left out' in said
    assert 'annotation 1 of image 1 (\'a.png\'): "bbox" ' in said


def test_test_mode_keeps_all_images_and_crowds_are_marked(tmp_path):
    infos = build(tmp_path, test_mode=True).data_list
    assert len(infos) == 3
    assert [i['ignore_flag'] for i in infos[1]['instances']] == [1]


@pytest.mark.parametrize('classes, labels', [(('dog',), [0]), (('dog', 'cat'), [0, 1])])
def test_labels_follow_the_names(tmp_path, classes, labels):
    """In whatever order the file has them; those of other classes are left out."""
    instances = build(tmp_path, classes=classes).data_list[0]['instances']
    assert [i['bbox_label'] for i in instances] == labels


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(content=changed(category_id=8)), 'annotation 1 .*category 8'),
        (dict(content=changed(image_id=77)), 'annotation 1 .*image 77'),
        (dict(classes=('cat', 'bird')), "'bird'.*metainfo"),
    ],
)
def test_what_is_not_in_the_file_is_named(tmp_path, options, message):
    with pytest.raises(AnnotationError, match=message):
        build(tmp_path, **options)


def test_unknown_policy(tmp_path):
    with pytest.raises(ValueError, match='bad_boxes'):
        build(tmp_path, bad_boxes='ignore')


@pytest.mark.parametrize('content', ['[1, 2]', '{"images": []}', '{"ima'])
def test_other_files_are_not_annotation_files(tmp_path, content):
    with pytest.raises(AnnotationError, match='not a COCO annotation file'):
        build(tmp_path, content)
