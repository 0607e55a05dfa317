"""Mixed precision and compiling from the command line of ``train.py``."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.optim.optimizer import amp_optimizer_wrapper

from mmdet_centernet2.cli import checks
from mmdet_centernet2.models.roi_heads import CenterNet2BBoxHead
from tests._tiny import tiny_config, write_dataset
from tests.test_tools.test_mmdet_tools import run_tool

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """File of a tiny config that only trains."""
    folder = tmp_path_factory.mktemp('options')
    write_dataset(folder / 'data')
    cfg = tiny_config(folder / 'data', train_dataloader__batch_size=2)
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.dump(folder / 'tiny.py')
    return folder / 'tiny.py'


@pytest.fixture
def dtypes(monkeypatch):
    """Types of the features that box heads compute, as a training goes on."""
    seen, original = [], CenterNet2BBoxHead.loss_and_target

    def loss_and_target(self, cls_score, *args, **kwargs):
        seen.append(cls_score.dtype)
        return original(self, cls_score, *args, **kwargs)

    monkeypatch.setattr(CenterNet2BBoxHead, 'loss_and_target', loss_and_target)
    return seen


def train(config, folder, *options):
    """Losses that a training of two iterations logs."""
    run_tool('train.py', config, '--work-dir', folder, *options)
    (logged,) = folder.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in logged.read_text().splitlines()]
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert len(losses) == 2 and torch.tensor(losses).isfinite().all()
    return losses


def test_bfloat16(config, tmp_path, dtypes):
    train(config, tmp_path, '--cfg-options', 'optim_wrapper.type=BF16OptimWrapper')
    assert set(dtypes) == {torch.bfloat16}


def test_amp(config, tmp_path, dtypes, monkeypatch):
    """mmengine's wrapper asks for a GPU but would run without: let it."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(checks, 'get_device', lambda: 'cpu:0')
    train(config, tmp_path, '--amp')
    assert set(dtypes) == {torch.bfloat16}


def test_compile(config, tmp_path):
    torch._dynamo.reset()
    cfg = Config.fromfile(config)
    cfg.custom_hooks.append(dict(type='CompileHook', backend='eager'))
    cfg.dump(tmp_path / 'compiled.py')
    train(tmp_path / 'compiled.py', tmp_path)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] > 0
