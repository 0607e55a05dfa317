"""mmengine's checkpoints load with torch's restrictions on; nothing else."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner, save_checkpoint
from torch.utils.data import Dataset

from mmdet_centernet2.checkpoint.safe_globals import allow_mmengine_checkpoints, pickled_method

META = dict(
    classes=('a', 'b'),
    palette=[(1, 2, 3)],
    areas=np.arange(3),
    scores=np.linspace(0, 1, 3, dtype=np.float32),
    names=np.array(['a', 'b']),
    one=np.float32(3),
    two=np.int64(3),
    three=np.bool_(True),
    four=np.str_('x'),
)


class Line(BaseModel):
    """The smallest model a Runner trains."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x, mode='tensor'):
        return dict(loss=(self.layer(x) - 1).pow(2).mean())


class Ones(Dataset):
    metainfo = META

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(x=torch.ones(2))


def make_runner(work_dir: Path, name: str, **kwargs) -> Runner:
    """A runner with every kind of state that ends up in a checkpoint."""
    return Runner(
        Line(),
        work_dir=str(work_dir),
        experiment_name=name,
        train_dataloader=dict(
            batch_size=2,
            dataset=Ones(),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
            dict(type='MultiStepLR', milestones=[1], by_epoch=True),
            dict(type='OneCycleLR', eta_max=0.1, total_steps=4, by_epoch=False),
        ],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[dict(type='EMAHook')],
        default_scope='mmdet',
        log_level='ERROR',
        **kwargs,
    )


def test_checkpoint_of_a_run_loads_and_resumes(tmp_path):
    runner = make_runner(tmp_path, 'first')
    runner.train()
    file = tmp_path / 'epoch_1.pth'
    checkpoint = torch.load(file, map_location='cpu', weights_only=True)
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer) and len(history.data[0]) > 0
    assert history.mean() > 0
    meta = checkpoint['meta']['dataset_meta']
    for key, value in META.items():
        np.testing.assert_array_equal(meta[key], value)
    assert {'optimizer', 'param_schedulers', 'ema_state_dict'} <= set(checkpoint)

    again = make_runner(tmp_path, 'second', resume=True, load_from=str(file))
    again.train()
    assert again.epoch == 2


def test_save_checkpoint_with_a_message_hub(tmp_path):
    hub = MessageHub.get_instance('test_save_checkpoint_with_a_message_hub')
    hub.update_scalar('train/loss', np.float64(2.5))
    hub.update_info('iter', 7)
    file = tmp_path / 'checkpoint.pth'
    save_checkpoint(dict(message_hub=hub.state_dict(), state_dict=Line().state_dict()), str(file))
    loaded = torch.load(file, weights_only=True)['message_hub']
    assert loaded['log_scalars']['train/loss'].current() == 2.5
    assert loaded['runtime_info']['iter'] == 7


def rename_in_pickle(source: Path, target: Path, old: bytes, new: bytes) -> int:
    """Copy a checkpoint as if its writer's numpy had other module names."""
    renamed = 0
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, 'w') as write:
        for name in read.namelist():
            data = read.read(name)
            if name.endswith('/data.pkl'):
                renamed = data.count(old)
                data = data.replace(old, new)
            write.writestr(name, data)
    return renamed


@pytest.mark.parametrize('other', [b'cnumpy.core.multiarray\n', b'cnumpy._core.multiarray\n'])
def test_files_of_either_numpy_load(tmp_path, other):
    source, target = tmp_path / 'source.pth', tmp_path / 'target.pth'
    torch.save(META, source)
    core = np.core if np.__version__.startswith('1.') else np._core
    here = b'c%s.multiarray\n' % core.__name__.encode()
    assert rename_in_pickle(source, target, here, other) > 0
    loaded = torch.load(target, weights_only=True)
    np.testing.assert_array_equal(loaded['areas'], META['areas'])
    assert loaded['one'] == 3


class Evil:
    """Unpickles by calling ``function``."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def evil_objects(marker: Path):
    command = f'touch {marker}'
    code = f'open({str(marker)!r}, "w")'
    yield 'system', Evil(os.system, command)
    yield 'eval', Evil(eval, code)
    yield 'exec', Evil(exec, code)
    yield 'open', Evil(open, str(marker), 'w')
    yield 'getattr', Evil(getattr, Evil(__import__, 'os'), 'system')
    yield 'method', Evil(getattr, HistoryBuffer, 'statistics')
    yield 'dunder', Evil(getattr, HistoryBuffer, '__init__')
    yield 'object array', np.array([Evil(eval, code)], dtype=object)


@pytest.mark.parametrize('name', [n for n, _ in evil_objects(Path('x'))])
def test_anything_else_is_refused_and_not_executed(tmp_path, name):
    allow_mmengine_checkpoints()
    marker = tmp_path / 'executed'
    file = tmp_path / 'evil.pth'
    torch.save(dict(state_dict=dict(evil_objects(marker))[name]), file)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    assert not marker.exists()


def test_the_stand_in_for_getattr_knows_the_needed_methods_only():
    assert pickled_method(HistoryBuffer, 'mean') is HistoryBuffer.mean
    for owner, name in (
        (HistoryBuffer, '__class__'),
        (os, 'system'),
        (HistoryBuffer(), 'mean'),
        ([], 'append'),
    ):
        with pytest.raises(pickle.UnpicklingError, match='refused'):
            pickled_method(owner, name)


def test_registering_twice_adds_nothing():
    allow_mmengine_checkpoints()
    before = torch.serialization.get_safe_globals()
    allow_mmengine_checkpoints()
    after = torch.serialization.get_safe_globals()
    assert len(after) == len(before)
    assert getattr not in [one[0] if isinstance(one, tuple) else one for one in after]


def test_the_list_stays_when_others_take_theirs_back(tmp_path):
    """As onedl-mmengine does whenever it reads a checkpoint."""
    file = tmp_path / 'checkpoint.pth'
    torch.save(META, file)
    with torch.serialization.safe_globals([np.ndarray, np.dtype, HistoryBuffer]):
        pass
    assert torch.load(file, weights_only=True)['one'] == 3
