"""Images per category, counted."""

import json
import runpy

import pytest

from mmdet_centernet2.models.losses import load_image_counts
from tests.paths import DATA, ROOT

TOOL = ROOT / 'tools/dataset_converters/lvis_image_counts.py'
CASE = DATA / 'lvis_case' / 'gt.json'


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_an_image_counts_once_for_a_category(tmp_path):
    ann_file = write(
        tmp_path / 'ann.json',
        dict(
            images=[dict(id=i, width=9, height=9) for i in (1, 2)],
            categories=[
                dict(id=5, name='rare'),
                dict(id=2, name='often'),
                dict(id=9, name='never'),
            ],
            annotations=[
                dict(id=i, image_id=image, category_id=category, bbox=[1, 1, 5, 5])
                for i, (image, category) in enumerate([(1, 2), (1, 2), (2, 2), (2, 5)])
            ],
        ),
    )
    assert runpy.run_path(str(TOOL))['count_images'](ann_file) == [
        dict(id=2, name='often', image_count=2),
        dict(id=5, name='rare', image_count=1),
        dict(id=9, name='never', image_count=0),
    ]


@pytest.fixture()
def run_tool(monkeypatch, capsys):
    """Run the tool; gives its exit code, output and error output."""

    def run(*arguments):
        monkeypatch.setattr('sys.argv', ['tool', *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOL), run_name='__main__')
        return ended.value.code, *capsys.readouterr()

    return run


def test_the_tool_writes_what_the_loss_reads(tmp_path, run_tool):
    out = tmp_path / 'new' / 'counts.json'
    code, output, errors = run_tool(CASE, out)
    assert code == 0, errors
    assert '12 categories, 1 without an image' in output
    truth = json.loads(CASE.read_text())
    expected = [
        len({ann['image_id'] for ann in truth['annotations'] if ann['category_id'] == category})
        for category in range(1, 13)
    ]
    assert load_image_counts(out) == expected


def test_the_tool_says_what_is_wrong(tmp_path, run_tool):
    bad = tmp_path / 'ann.json'
    bad.write_text('{"annotations": [')
    code, _, errors = run_tool(bad, tmp_path / 'o.json')
    assert code == 2
    assert errors.startswith('error:') and 'not a COCO annotation file' in errors
    assert not (tmp_path / 'o.json').exists()
