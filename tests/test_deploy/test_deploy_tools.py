"""``tools/deploy_tools`` as a user runs them."""

import json
import subprocess
import sys
from types import SimpleNamespace

import onnx
import pytest
import torch
from mmdet.apis import init_detector
from onnx import TensorProto

from mmdet_centernet2.runtime import Detector
from tests._tiny import PICTURES, tiny_config, write_dataset
from tests.paths import ROOT
from tests.test_deploy.stand_in import INFO, write_model

pytestmark = pytest.mark.export

TOOLS = sorted(path.stem for path in (ROOT / 'tools/deploy_tools').glob('*.py'))


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    """A tiny PyTorch model with its data and weights, and a stand-in for its export."""
    folder = tmp_path_factory.mktemp('tools')
    cfg = tiny_config(write_dataset(folder / 'data'), model__test_cfg__rcnn__score_thr=1e-3)
    cfg.dump(folder / 'tiny.py')
    torch.manual_seed(0)
    model = init_detector(cfg, device='cpu', palette='none')
    torch.save(dict(state_dict=model.state_dict()), folder / 'tiny.pth')
    exported = write_model(folder / 'stand-in.onnx', dict(INFO, score_thr=0.02))
    return SimpleNamespace(
        config=folder / 'tiny.py',
        checkpoint=folder / 'tiny.pth',
        images=folder / 'data/images',
        exported=exported,
    )


def test_compare_says_that_different_models_differ(case, run_tool, tmp_path, capsys):
    out = tmp_path / 'report.json'
    assert run_tool('compare', case.config, case.checkpoint, case.exported, '--out', out) == 1
    said = capsys.readouterr().out
    assert 'do NOT agree' in said and 'coco/bbox_mAP ' in said
    report = json.loads(out.read_text())
    assert report['images'] == len(PICTURES) and report['score_thr'] == 0.02
    # the stand-in always finds the whole image and one box more in it
    assert report['only_other'] == 2 * len(PICTURES)
    assert report['other_ap'] != report['reference_ap']


def test_compare_refuses_what_is_no_model(case, run_tool, capsys):
    assert run_tool('compare', case.config, case.checkpoint, case.config) == 2
    assert 'is not a model' in capsys.readouterr().err


def test_quantize_reports_precision_and_time(case, run_tool, tmp_path, capsys):
    report = tmp_path / 'report.json'
    options = f'--config {case.config} --num-images 2 --report {report}'.split()
    out = tmp_path / 'int8.onnx'
    assert run_tool('quantize', case.exported, case.images, '--out', out, *options) == 0
    said = capsys.readouterr().out
    assert '3 convolutions are INT8' in said and 'coco/bbox_mAP_50' in said
    rows = json.loads(report.read_text())
    assert list(rows) == ['float32', 'INT8']
    assert all(row['milliseconds'] > 0 for row in rows.values())


@pytest.mark.slow
def test_benchmark_gives_every_contestant_the_same_work(case, run_tool, tmp_path, capsys):
    shape = ('--shape', 96, 128, '--rounds', 1, '--work-dir')
    assert run_tool('benchmark', case.config, '--int8', *shape, tmp_path) == 0
    rows = json.loads((tmp_path / 'report.json').read_text())['rows']
    assert list(rows) == ['PyTorch', 'model, onnxruntime', 'model-int8, onnxruntime']
    found = rows['PyTorch']['detections']
    assert found == rows['model, onnxruntime']['detections'] > 10
    assert all(row['speedup'] > 0 for row in rows.values())
    assert rows['PyTorch']['speedup'] == 1
    said = capsys.readouterr().out
    assert 'speed-up' in said and 'model-int8, onnxruntime' in said
    # what was written can be timed again
    files = ('--checkpoint', tmp_path / 'random.pth', '--models', tmp_path / 'model.onnx')
    assert run_tool('benchmark', tmp_path / 'config.py', *files, *shape, tmp_path / 'again') == 0
    again = json.loads((tmp_path / 'again/report.json').read_text())['rows']
    assert list(again) == ['PyTorch', 'model, onnxruntime']
    assert {row['detections'] for row in again.values()} == {found}


@pytest.mark.slow
def test_benchmark_of_winograd_convolutions(case, run_tool, tmp_path):
    options = '--winograd', '--shape', 96, 128, '--rounds', 1, '--work-dir', tmp_path
    assert run_tool('benchmark', case.config, *options) == 0
    rows = json.loads((tmp_path / 'report.json').read_text())['rows']
    assert list(rows) == ['PyTorch', 'model, onnxruntime', 'model-winograd, onnxruntime']
    assert len({row['detections'] for row in rows.values()}) == 1


def test_benchmark_refuses_shapes_that_do_not_fit(case, run_tool, capsys):
    assert run_tool('benchmark', case.config, '--shape', 100, 128) == 2
    assert 'multiples of 32' in capsys.readouterr().err


def test_to_half(case, run_tool, tmp_path, capsys):
    out = tmp_path / 'half.onnx'
    assert run_tool('to_half', case.exported, out) == 0
    assert Detector(out).info == Detector(case.exported).info
    half = {t.name for t in onnx.load(out).graph.initializer if t.data_type == TensorProto.FLOAT16}
    assert {name.split('/')[1] for name in half} == {'backbone', 'neck'}
    assert run_tool('to_half', case.images, out) == 2
    assert 'to_half.py: error: ' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize('tool', ['deploy', *(f'deploy_tools/{name}' for name in TOOLS)])
def test_without_mmdeploy(tool):
    """One line says what to install."""
    path = ROOT / f'tools/{tool}.py'
    code = f"""
import runpy, sys
sys.modules['mmdeploy'] = None
runpy.run_path({str(path)!r}, run_name='__main__')
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'{path.name}: error: ') and 'docs/install.md says' in line
