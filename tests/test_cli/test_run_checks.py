"""Endless epochs and operators without CUDA are refused before the run."""

from argparse import Namespace

import pytest
import torch
from mmengine.config import Config

from mmdet_centernet2.cli import checks
from mmdet_centernet2.cli.checks import check_devices, check_schedule
from mmdet_centernet2.utils.errors import PreflightError
from tests.test_tools.test_mmdet_tools import refusal

ENDLESS = (
    'InfiniteSampler',
    'RepeatFactorSampler',
    'WeightedClassAwareSampler',
    'MultiSourceSampler',
    'GroupMultiSourceSampler',
    'mmengine.InfiniteSampler',
)
EPOCHS = (dict(type='EpochBasedTrainLoop', max_epochs=2), dict(by_epoch=True, max_epochs=2))


def config_of(sampler, loop):
    return Config(dict(train_cfg=loop, train_dataloader=dict(sampler=dict(type=sampler))))


@pytest.mark.parametrize('loop', EPOCHS)
@pytest.mark.parametrize('sampler', ENDLESS)
def test_epoch_without_end(sampler, loop):
    with pytest.raises(PreflightError) as error:
        check_schedule(config_of(sampler, loop))
    said = str(error.value)
    assert '\n' not in said
    assert said.startswith(f'train_dataloader.sampler: {sampler} never ends')
    assert "type='DefaultSampler'" in said and 'FastResumeTrainLoop' in said


@pytest.mark.parametrize(
    'sampler, loop',
    [
        *[('DefaultSampler', loop) for loop in EPOCHS],
        ('ClassAwareSampler', EPOCHS[0]),
        *[(sampler, dict(type='IterBasedTrainLoop', max_iters=2)) for sampler in ENDLESS],
        ('InfiniteSampler', dict(type='FastResumeTrainLoop', max_iters=2)),
        ('InfiniteSampler', dict(by_epoch=False, max_iters=2)),
        ('InfiniteSampler', None),
        ('NoSuchSampler', EPOCHS[0]),  # mmengine says so
    ],
)
def test_what_ends(sampler, loop):
    check_schedule(config_of(sampler, loop))


def test_both_kinds_of_loops():
    with pytest.raises(PreflightError, match='_delete_=True'):
        check_schedule(
            config_of('DefaultSampler', dict(type='EpochBasedTrainLoop', max_epochs=2, max_iters=9))
        )


def test_train_refuses(tmp_path, capsys):
    """Before it looks for the data, which is not there."""
    config = tmp_path / 'config.py'
    config.write_text(
        "custom_imports = dict(imports=['mmdet_centernet2'])\n"
        f'train_cfg = {EPOCHS[0]}\n'
        "train_dataloader = dict(sampler=dict(type='RepeatFactorSampler'))\n"
    )
    said = refusal(capsys, 'train.py', config, '--work-dir', tmp_path / 'work')
    assert said.startswith('train.py: error: train_dataloader.sampler')
    assert not (tmp_path / 'work').exists()


# -----operators-----
@pytest.fixture
def cpu_only(monkeypatch):
    """Operators as mmcv compiles them without CUDA, and a GPU."""
    calls = []

    def fail(device):
        calls.append(device)
        raise RuntimeError(f'nms_impl: implementation for device {device} not found.\nC++ stack\n')

    monkeypatch.setattr(checks, 'run_nms', fail)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda _: (8, 6))
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda _: 'RTX 3090')
    return calls


def test_operators_without_cuda(cpu_only):
    with pytest.raises(PreflightError) as error:
        check_devices(Namespace(device='cuda:0'))
    said = str(error.value)
    assert '\n' not in said
    for part in (
        'cuda:0 (RTX 3090): nms_impl: implementation for device',
        'FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST=8.6',
        'CUDA_VISIBLE_DEVICES=',
    ):
        assert part in said


def test_only_gpus_are_looked_at(cpu_only):
    check_devices(Namespace(device='cpu'))
    assert not cpu_only


def test_operators_of_this_machine(monkeypatch):
    assert checks.run_nms('cpu') == [0]
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(checks, 'run_nms', lambda device: [0])
    check_devices(Namespace(device='cuda:0'))


@pytest.mark.parametrize('name', ['LOCAL_RANK', 'SLURM_LOCALID'])
def test_every_run_is_checked_once_on_a_machine(cpu_only, monkeypatch, name):
    monkeypatch.setattr(checks, 'get_device', lambda: 'cuda')
    monkeypatch.setenv('LOCAL_RANK', '0')  # as mmdet's parsers leave it
    monkeypatch.setenv(name, '1')
    check_devices(Namespace())
    assert not cpu_only
    monkeypatch.setenv(name, '0')
    with pytest.raises(PreflightError, match='do not run on cuda'):
        check_devices(Namespace())
    with pytest.raises(PreflightError, match='do not run on cuda:1'):
        check_devices(Namespace(device='cuda:1'))
