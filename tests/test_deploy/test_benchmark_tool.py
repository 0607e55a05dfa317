"""The tool that times a model against its export."""

import json
import runpy
import sys

import pytest

from tests._tiny import tiny_config, write_dataset
from tests.paths import ROOT

pytestmark = [pytest.mark.export, pytest.mark.slow]


def run_tool(*args):
    before = sys.argv
    sys.argv = [str(ROOT / 'tools/deploy_tools/benchmark.py'), *(str(a) for a in args)]
    try:
        runpy.run_path(sys.argv[0], run_name='__main__')
    finally:
        sys.argv = before


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('benchmark')
    path = folder / 'tiny.py'
    tiny_config(write_dataset(folder / 'data')).dump(path)
    return path


def test_every_contestant_does_the_same_work(config, tmp_path, capsys):
    run_tool(config, '--shape', 96, 128, '--rounds', 1, '--int8', '--work-dir', tmp_path)
    report = json.loads((tmp_path / 'report.json').read_text())
    rows = report['rows']
    assert list(rows) == ['PyTorch', 'onnxruntime', 'onnxruntime INT8']
    found = {name: row['detections'] for name, row in rows.items()}
    assert found['PyTorch'] > 10
    assert found['PyTorch'] == found['onnxruntime']
    assert all(row['speedup'] > 0 for row in rows.values())
    assert rows['PyTorch']['speedup'] == 1
    said = capsys.readouterr().out
    assert 'speed-up' in said and 'onnxruntime INT8' in said
    # what was written can be timed again
    run_tool(
        tmp_path / 'config.py',
        '--checkpoint',
        tmp_path / 'random.pth',
        '--models',
        tmp_path / 'model.onnx',
        '--shape',
        96,
        128,
        '--rounds',
        1,
        '--work-dir',
        tmp_path / 'again',
    )
    again = json.loads((tmp_path / 'again/report.json').read_text())['rows']
    assert list(again) == ['PyTorch', 'model, onnxruntime']
    assert {row['detections'] for row in again.values()} == {found['PyTorch']}


def test_shapes_that_do_not_fit_are_refused(config, capsys):
    with pytest.raises(SystemExit) as end:
        run_tool(config, '--shape', 100, 128)
    assert end.value.code == 2
    assert 'multiples of 32' in capsys.readouterr().err
