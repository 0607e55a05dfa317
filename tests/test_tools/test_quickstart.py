"""The main job at its smallest: every part works, every file is there."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from tests.paths import CONFIGS, ROOT
from tests.wheels import tree_members, write_wheel
from tools.quickstart import job
from tools.quickstart.tree_tiles import DEEPFOREST, prepare_tree_tiles

pytestmark = pytest.mark.slow

CONFIG = CONFIGS / 'centernet2/centernet2_mobilenet-v2_fpn_tree-tiles.py'


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


@pytest.fixture(scope='module')
def done(tiles, tmp_path_factory):
    """The finished command and its folder."""
    out = tmp_path_factory.mktemp('quickstart') / 'out'
    command = [
        sys.executable,
        str(ROOT / 'tools/quickstart.py'),
        '--quick',
        '--device',
        'cpu',
        '--seed',
        '3',
        '--data-root',
        str(tiles),
        '--work-dir',
        str(out),
    ]
    finished = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=out.parent,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )
    assert finished.returncode == 0, finished.stderr
    return finished, out


def test_one_folder_holds_everything(done):
    _, out = done
    metrics = json.loads((out / 'metrics.json').read_text())
    assert metrics['seed'] == 3 and metrics['iterations'] == 2
    assert -1 <= metrics['mAP'] <= metrics['mAP_50'] <= 1
    assert metrics['seconds_total'] >= metrics['seconds_training'] > 0
    losses = json.loads((out / 'losses.json').read_text())
    assert {len(values) for values in losses.values()} == {2}
    assert losses['loss'][0] > 0 and 's2.loss_bbox' in losses
    pictures = sorted((out / 'pictures').glob('*.png'))
    assert len(pictures) == 2
    for path in [*pictures, out / 'loss_curve.png']:
        assert cv2.imread(str(path)).shape[0] > 300


def test_checkpoint_fits_the_saved_config(done):
    from mmdet.registry import MODELS

    _, out = done
    config = Config.fromfile(out / 'config.py')
    model = MODELS.build(config.model)
    state = torch.load(out / 'checkpoint.pth', weights_only=True)
    model.load_state_dict(state['state_dict'])


def test_a_person_can_follow(done):
    text = done[0].stdout
    for part in ('2/2 iterations', 'to go', 'AP50', 'checkpoint.pth', 'tools/image_demo.py'):
        assert part in text
    assert 'Running per image evaluation' not in text
    assert len(text.splitlines()) < 40


def test_unknown_device_is_refused_in_one_line(tmp_path):
    finished = subprocess.run(
        [sys.executable, str(ROOT / 'tools/quickstart.py'), '--device', 'tpu'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )
    assert finished.returncode == 2
    assert 'error: --device tpu' in finished.stderr


@pytest.mark.parametrize('iterations', [2, 7, 100, 5000])
def test_the_schedule_stretches_as_a_whole(iterations):
    config = Config.fromfile(CONFIG)
    before = config.train_cfg.max_iters
    warmup = config.param_scheduler[0].end
    job.set_iterations(config, iterations)
    assert config.train_cfg.max_iters == iterations
    linear, cosine = config.param_scheduler
    assert linear.end == max(1, round(warmup * iterations / before))
    assert linear.end == cosine.begin < cosine.end == iterations
    assert cosine.T_max == iterations - cosine.begin


def test_everything_reads_the_data_root(tmp_path):
    options = job.Options(CONFIG, data_root=tmp_path, work_dir=tmp_path / 'w')
    config = job.load_config(options, tmp_path / 'weights.pth')
    text = config.pretty_text
    assert 'data/tree_tiles' not in text
    assert text.count(str(tmp_path)) >= 6


def test_all_parts_of_the_original_are_there():
    model = Config.fromfile(CONFIG).model
    assert model.rpn_head.type == 'CenterNet2ProposalHead'
    assert model.roi_head.type == 'CenterNet2CascadeRoIHead'
    assert model.roi_head.num_stages == 3
    assert len(model.roi_head.stage_target_stds) == 3
    assert len(model.train_cfg.rcnn) == 3


def test_truth_is_read_per_image(tiles):
    truth = job.read_truth(tiles / 'annotations' / 'val.json')
    boxes = np.array(sum(truth.values(), []))
    assert boxes.shape == (4, 4)
    assert (boxes[:, 2:] > boxes[:, :2]).all()
