"""Reading LVIS v1 annotations as the original does."""

import json

import pytest
from mmdet.datasets import LVISV1Dataset
from mmdet.registry import DATASETS

from mmdet_centernet2.datasets import AnnotationError
from tests.paths import DATA

CASE = DATA / 'lvis_case' / 'gt.json'
THINGS = tuple(f'thing_{i}' for i in range(1, 13))
# Names of one edition of the class list; mmdet has the other one.
OTHER_EDITION = {161: 'horned_cow', 654: 'speaker_(stero_equipment)'}


def build(ann_file, classes=THINGS, **kwargs):
    options = dict(metainfo=dict(classes=classes)) if classes else {}
    return DATASETS.build(
        dict(
            type='CenterNet2LVISDataset',
            ann_file=str(ann_file),
            data_prefix=dict(img='root'),
            filter_cfg=dict(filter_empty_gt=True),
            serialize_data=False,
            check_files=False,
            **options,
            **kwargs,
        )
    )


def changed(tmp_path, change):
    content = json.loads(CASE.read_text())
    change(content)
    (tmp_path / 'gt.json').write_text(json.dumps(content))
    return tmp_path / 'gt.json'


def full_vocabulary(tmp_path, names):
    """All 1,203 categories, one image with one tiny object of the last."""
    return changed(
        tmp_path,
        lambda content: content.update(
            images=content['images'][:1],
            categories=[dict(id=i, name=n) for i, n in enumerate(names, 1)],
            annotations=[
                dict(id=1, image_id=1, category_id=1203, bbox=[3, 4, 0.5, 0.25], area=0.125)
            ],
        ),
    )


def test_labels_files_and_images():
    dataset = build(CASE)
    truth = json.loads(CASE.read_text())
    assert [info['img_id'] for info in dataset.data_list] == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
    ]  # the eighth is empty
    assert dataset.data_list[4]['img_path'] == ('root/val2017/000000000005.jpg')
    found = [
        (info['img_id'], i['bbox_label'], i['bbox'])
        for info in dataset.data_list
        for i in info['instances']
    ]
    expected = [
        (
            a['image_id'],
            a['category_id'] - 1,
            [a['bbox'][0], a['bbox'][1], a['bbox'][0] + a['bbox'][2], a['bbox'][1] + a['bbox'][3]],
        )
        for a in truth['annotations']
    ]
    assert sorted(found) == sorted(expected)


def test_testing_keeps_empty_images():
    assert len(build(CASE, test_mode=True)) == 8


@pytest.mark.parametrize('edition', [{}, OTHER_EDITION])
def test_both_editions_of_the_1203_names(tmp_path, edition):
    names = list(LVISV1Dataset.METAINFO['classes'])
    for label, name in edition.items():
        assert names[label] != name
        names[label] = name
    dataset = build(full_vocabulary(tmp_path, names), classes=None)
    (instance,) = dataset.data_list[0]['instances']
    assert instance['bbox_label'] == 1202
    assert instance['bbox'] == [3, 4, 3.5, 4.25]  # small, but kept


def test_a_wrong_name_among_1203_is_an_error(tmp_path):
    names = list(LVISV1Dataset.METAINFO['classes'])
    names[161] = 'cow_with_horns'
    with pytest.raises(AnnotationError, match="label 161 is 'cow_with_horns'"):
        build(full_vocabulary(tmp_path, names), classes=None)


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda c: c['images'][0].pop('coco_url'), '"coco_url" is None; .*v0.5'),
        (
            lambda c: c['categories'].pop(),
            'label 11 is None, but .thing_12. .*11 categories, 12 classes',
        ),
        (lambda c: c['categories'][0].update(name='x'), "label 0 is 'x', but 'thing_1'"),
        (lambda c: c['annotations'][0].update(category_id=99), 'unknown category 99'),
        (lambda c: c['annotations'][0].update(image_id=99), 'image 99'),
        (
            lambda c: c['annotations'][3].update(bbox=[1, 2, -3, 4]),
            'annotation 4 of image 1.*negative size',
        ),
        (lambda c: c['annotations'][1].update(id=1), 'not unique'),
        (lambda c: c.pop('annotations'), 'annotations'),
    ],
)
def test_says_what_is_wrong(tmp_path, change, message):
    with pytest.raises(AnnotationError, match=message):
        build(changed(tmp_path, change))
