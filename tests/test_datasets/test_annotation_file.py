"""Any JSON text is read; values of a wrong type are errors that name the entry."""

import gzip
import json
import math

import pytest

from mmdet_centernet2.datasets import AnnotationError, read_annotations, read_table

from .exports import content

HUGE = 10**400  # does not fit a float
WRONG = [
    (part, dict(id=value), 'number 1.*"id" is .*; it must be')
    for part in ('images', 'categories', 'annotations')
    for value in ([1], {}, True, 1.5)
] + [
    *(
        ('annotations', {key: value}, f'annotation 1 .*"{key}" is .*; it must be a whole number')
        for key in ('image_id', 'category_id')
        for value in ([1], {}, True, None)
    ),
    ('annotations', dict(area=HUGE), '"area" is 1000'),
    ('annotations', dict(iscrowd=[1]), '"iscrowd" is .1.; it must be 0 or 1'),
    (
        'annotations',
        dict(segmentation=dict(size=7, counts=[1])),
        r'must be .* run lengths of .height, width. = .120, 160.',
    ),
    ('annotations', dict(segmentation=[[HUGE] * 6]), 'must be polygons'),
    ('annotations', dict(segmentation='x'), 'must be polygons'),
    ('images', dict(width=HUGE), '"width" is 1000'),
    ('images', dict(height=True), '"height" is True'),
    ('categories', dict(name=['cat']), '"name" is .*; it must be text'),
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


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32-le'])
@pytest.mark.parametrize('options', [{}, dict(indent=1), dict(ensure_ascii=False)])
def test_any_encoding(tmp_path, encoding, options):
    js = content()
    js['images'][0]['file_name'] = 'bär "0", [{}]\\n'
    path = tmp_path / 'a.json'
    path.write_bytes(json.dumps(js, **options).encode(encoding))
    for keep_masks in (False, True):
        table = read_table(path, keep_masks=keep_masks)
        assert table.images == js['images']
        assert table.boxes.tolist() == [ann['bbox'] for ann in js['annotations']]
        assert table.masks == [ann['segmentation'] for ann in js['annotations'] if keep_masks]


@pytest.mark.parametrize('value', [[1, '2'], dict(counts=[1]), None, [math.inf], [dict(a=[1])]])
def test_masks_that_are_not_kept_do_not_matter(tmp_path, value):
    js = content()
    path = tmp_path / 'a.json'
    for ann in js['annotations']:
        ann.update(segmentation=value, attributes=dict(segmentation=value), area=5)
    path.write_text(json.dumps(js))
    table = read_table(path)
    assert table.boxes.tolist() == [ann['bbox'] for ann in js['annotations']]
    assert set(table.areas) == {5} and table.masks == []


@pytest.mark.parametrize(
    'text',
    ['', '[1]', '{', '{"a":1}{', '{"a":1,}', '{"a":[1,2', '{"a":tru}', '{a:1}', '{"a":"\x01"}']
    + ['{"images":[],"images":[],"categories":[]}', '{"images":[1],"categories":[]}']
    + [gzip.compress(b'{}', mtime=0), b'"\xe4"', 'version https://git-lfs', '[' * 10**5],
)
def test_what_is_no_object_of_lists_is_refused(tmp_path, text):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / 'a.json').write_bytes(content)
    with pytest.raises(AnnotationError, match='not a COCO annotation file') as error:
        read_table(tmp_path / 'a.json')
    assert str(error.value).endswith(f'it starts with {content[:20]!r}')
