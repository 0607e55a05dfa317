"""What stands on the terminal when a training starts."""

import os
import subprocess
import sys
import warnings

import pytest

from tests._tiny import tiny_config, write_dataset
from tests.paths import ROOT
from tests.test_tools.test_mmdet_tools import run_tool

#: Lines before the first loss.
MAX_LINES = 60


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Holds a config with frozen and other norms, and a worker."""
    folder = tmp_path_factory.mktemp('terminal')
    write_dataset(folder / 'data')
    tiny_config(
        folder / 'data',
        train_dataloader__num_workers=1,
        train_dataloader__pin_memory=True,
        default_hooks__checkpoint__interval=1,
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None,
    ).dump(folder / 'tiny.py')
    return folder


def lines_before_loss(text):
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if ' loss: ' in line)
    return lines[:first], lines[first]


@pytest.mark.slow
def test_a_training_starts_in_few_lines(folder):
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/train.py', 'tiny.py', '--work-dir', 'work'],
        cwd=folder,
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    lines, loss = lines_before_loss(done.stdout)
    assert len(lines) < MAX_LINES, done.stdout[:5000]
    text = '\n'.join(lines)
    # onedl-mmdetection says so at its import
    text = text.replace('UserWarning: faster_coco_eval is not installed', '')
    for useless in (
        'requires_grad=False',
        'paramwise_options',
        'Warning',
        'pkg_resources',
        'Hooks will be',
        'FileClient',
    ):
        assert useless not in text
    for useful in (
        'device cpu',
        'seed ',
        '4 images, 2 classes (light, dark)',
        'Checkpoints will be saved to',
    ):
        assert useful in text
    assert 'eta: ' in loss and 'lr: ' in loss

    # the places that are named hold what is not shown
    (log,) = folder.glob('work/*/*.log')
    config = folder / 'work/tiny.py'
    assert str(log) in text and str(config) in text
    assert 'CenterNet2ProposalHead' in config.read_text()
    kept = log.read_text()
    for part in (
        'requires_grad=False',
        'paramwise_options',
        'Hooks will be',
        'System environment:',
        'CenterNet2ProposalHead',
        ' loss: ',
    ):
        assert part in kept


@pytest.mark.slow  # as what it resumes
def test_a_resumed_training_says_from_where(folder, capsys):
    with warnings.catch_warnings():
        run_tool(
            'train.py',
            folder / 'tiny.py',
            '--work-dir',
            folder / 'work',
            '--resume',
            '--cfg-options',
            'train_cfg.max_iters=3',
        )
    lines, loss = lines_before_loss(capsys.readouterr().out)
    assert len(lines) < MAX_LINES
    text = '\n'.join(lines)
    assert 'Auto resumed from the latest checkpoint' in text
    assert 'resumed epoch: 0, iter: 2' in text
    assert '[3/3]' in loss
