"""Large JSON objects, read in parts of any size."""

import json
import math

import pytest

from mmdet_centernet2.datasets import json_parts
from mmdet_centernet2.datasets.json_parts import read_members

CONTENT = dict(
    info=dict(year=2017, list=[[], {}, [1]]),
    images=[dict(id=i, file_name=f'bär "{i}", [{{}}]\\n') for i in range(9)],
    annotations=[],
    number=-12.5e3,
    nothing=None,
)


def read(path, skip=None):
    found = {}
    for key, value in read_members(path, skip):
        found[key] = found.get(key, []) + value if isinstance(value, list) else value
    return found


@pytest.mark.parametrize('block', [1, 7, 50, 1 << 20])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32-le'])
@pytest.mark.parametrize('options', [{}, dict(indent=1), dict(ensure_ascii=False)])
def test_it_is_what_json_reads(tmp_path, monkeypatch, block, encoding, options):
    monkeypatch.setattr(json_parts, '_BLOCK', block)
    path = tmp_path / 'a.json'
    path.write_bytes(json.dumps(CONTENT, **options).encode(encoding))
    assert read(path) == CONTENT


@pytest.mark.parametrize(
    'text',
    ['', '[1]', '{', '{"a":1}{', '{"a":1,}', '{"a":[1,2', '{"a":[1 2]}', '{"a":[1,]}', '{"a":tru}']
    + ['{,}', '{a:1}', '{"a" 1}', '{"a":12', '{"a":"\x01"}', '{"a":1,"a":2}', '{"a":[1],"a":[2]}'],
)
def test_what_is_no_json_object_is_refused(tmp_path, text):
    (tmp_path / 'a.json').write_text(text)
    with pytest.raises(ValueError, match='at character'):
        read(tmp_path / 'a.json')


@pytest.mark.parametrize('block', [5, 1 << 20])
@pytest.mark.parametrize(
    'value, skipped',
    [
        (value, value)
        for value in ([], [[]], [[1], 'a'], [1, '2'], dict(counts=[1]), None, '[1]', [dict(a=[1])])
    ]
    + [(value, [0]) for value in ([1], [[1, 2], [-3.5e2]], [math.inf])],
)
def test_lists_of_numbers_can_be_skipped(tmp_path, monkeypatch, block, value, skipped):
    monkeypatch.setattr(json_parts, '_BLOCK', block)
    entries = [{'x': value, 'b': 1}, {'a': '"x": [1], "b": 2', 'x': value}]
    (tmp_path / 'a.json').write_text(json.dumps(dict(list=entries)))
    found = read(tmp_path / 'a.json', 'x')['list']
    for entry, wanted in zip(found, entries, strict=True):
        assert entry.pop('x') in (value, skipped)
        assert entry == {k: v for k, v in wanted.items() if k != 'x'}
    if block > 5:
        assert read(tmp_path / 'a.json', 'x')['list'][0]['x'] == skipped
