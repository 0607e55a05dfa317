"""Values of a wrong JSON type are errors that name the entry."""

import json

import pytest

from mmdet_centernet2.datasets import AnnotationError, read_annotations

from .exports import content

HUGE = 10**400  # does not fit a float
WRONG = [
    (part, dict(id=value), 'number 1.* has no usable "id"')
    for part in ('images', 'categories', 'annotations')
    for value in ([1], {}, True, 1.5)
] + [
    ('annotations', dict(image_id=[1]), '"image_id" is the unknown image'),
    ('annotations', dict(image_id={}), '"image_id" is the unknown image'),
    ('annotations', dict(category_id=[1]), '"category_id" is the unknown category'),
    ('annotations', dict(category_id={}), '"category_id" is the unknown category'),
    ('annotations', dict(area=HUGE), '"area" is 1000'),
    ('annotations', dict(iscrowd=[1]), '"iscrowd" is .1.; it must be 0 or 1'),
    ('annotations', dict(segmentation=dict(size=7, counts=[1])), 'run-length mask of size 7'),
    ('annotations', dict(segmentation=[[HUGE] * 6]), 'no polygon of at least three points'),
    ('annotations', dict(segmentation='x'), 'must be a list of polygons'),
    ('images', dict(file_name=['a.jpg']), 'has no "file_name"'),
    ('images', dict(width=HUGE), '"width" is 1000'),
    ('images', dict(height=True), '"height" is True'),
    ('categories', dict(name=['cat']), 'has no "name"'),
]


@pytest.mark.parametrize('evaluation', [False, True])
@pytest.mark.parametrize('part, change, message', WRONG)
def test_named(tmp_path, part, change, message, evaluation):
    js = content()
    js[part][0].update(change)
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(js))
    with pytest.raises(AnnotationError, match=message):
        read_annotations(path, evaluation=evaluation, masks=True)


def test_more_digits_than_python_reads(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(content()).replace('"width": 160', f'"width": {"9" * 5000}', 1))
    with pytest.raises(AnnotationError, match='not a COCO annotation file'):
        read_annotations(path)
