"""Images per category, shipped and read."""

import json

import pytest

from mmdet_centernet2.models.losses import load_image_counts


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_shipped_counts_are_those_of_lvis_v1():
    counts = load_image_counts('lvis_v1')
    assert (len(counts), min(counts), max(counts), sum(counts)) == (1203, 1, 1977, 360952)
    groups = [
        sum(c <= 10 for c in counts),
        sum(10 < c <= 100 for c in counts),
        sum(c > 100 for c in counts),
    ]
    assert groups == [337, 461, 405]  # rare, common, frequent


def test_reads_lists_and_entries_in_any_order(tmp_path):
    assert load_image_counts((3, 0, 2.5)) == [3, 0, 2.5]
    assert load_image_counts(write(tmp_path / 'a.json', [4, 5])) == [4, 5]
    entries = [dict(id=2, image_count=7, frequency='f'), dict(id=1, image_count=3)]
    assert load_image_counts(str(write(tmp_path / 'b.json', entries))) == [3, 7]


@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'a.json holds no image counts.*No such file.*lvis_v1'),
        ('{', 'a.json holds no image counts.*JSONDecodeError'),
        (dict(a=1), 'holds no image counts'),
        ([], 'holds no image counts'),
        ([dict(id=1)], "KeyError: 'image_count'"),
        ([1, 'x'], "label 1 is 'x'"),
        ([1, -1], 'label 1 is -1'),
    ],
)
def test_says_which_counts_are_bad(tmp_path, content, message):
    path = tmp_path / 'a.json'
    if content is not None:
        path.write_text(content if content == '{' else json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_image_counts(path)
