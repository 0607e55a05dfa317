"""The quickstart at its smallest: ``centernet2 train`` on tiles of photographs."""

import json
import os
import subprocess
import sys

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from tests.paths import CONFIGS, ROOT
from tests.test_tools.test_mmdet_tools import run_tool
from tests.wheels import tree_members, write_wheel
from tools.quickstart.tree_tiles import DEEPFOREST, prepare_tree_tiles

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def tiles(tmp_path_factory):
    """The stand-in data set under the manifest of the real one.

    A whole data set is not made anew, so the job trains on these few tiles.
    """
    folder = tmp_path_factory.mktemp('tiles')
    wheel_path = folder / 'stand_in-1.0-py3-none-any.whl'
    wheel = write_wheel(wheel_path, tree_members())
    out = folder / 'tree_tiles'
    prepare_tree_tiles(out, wheel, wheel_path, say=lambda line: None)
    manifest = json.loads((out / 'manifest.json').read_text())
    manifest['wheel_sha256'] = DEEPFOREST.sha256
    (out / 'manifest.json').write_text(json.dumps(manifest))
    return out


def quickstart(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / 'tools/quickstart.py'), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=f'{ROOT}:{os.environ["PYTHONPATH"]}'),
    )


def test_the_job_then_the_job_again(tiles, tmp_path, monkeypatch, capsys):
    options = ['--quick', '--device', 'cpu', '--seed', 3, '--data-root', tiles, '--out', tmp_path]
    first = quickstart(*options)
    assert first.returncode == 0, first.stderr
    for part in ('2/2', 'to go', 'AP50', 'report.html', '1 classes: tree'):
        assert part in first.stdout
    assert len(first.stdout.splitlines()) < 40
    assert 0 <= json.loads((tmp_path / 'metrics.json').read_text())['mAP'] <= 1
    config = Config.fromfile(tmp_path / 'config.py')
    state = torch.load(tmp_path / 'checkpoint.pth', weights_only=True)
    MODELS.build(config.model).load_state_dict(state['state_dict'])
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')  # as the tool does for a CPU
    monkeypatch.syspath_prepend(ROOT / 'tools')
    run_tool('quickstart.py', *options)
    again = capsys.readouterr().out
    assert 'going on with it' in again and 'Resuming from' in again


def test_unknown_device_is_refused_in_one_line():
    finished = quickstart('--device', 'tpu')
    assert finished.returncode == 2
    assert 'error: --device tpu' in finished.stderr


def test_all_parts_of_the_original_are_there():
    model = Config.fromfile(CONFIGS / 'centernet2/centernet2_mobilenet-v2_fpn_small.py').model
    assert model.rpn_head.type == 'CenterNet2ProposalHead'
    assert model.roi_head.type == 'CenterNet2CascadeRoIHead'
    assert model.roi_head.num_stages == 3
    assert len(model.roi_head.stage_target_stds) == 3
    assert len(model.train_cfg.rcnn) == 3
