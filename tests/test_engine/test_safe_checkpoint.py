"""A killed training loses nothing, and goes on as if it had not been killed."""

import errno
import os
import random
import shutil
import signal
import time
from multiprocessing import get_context

import numpy as np
import pytest
import torch
import torch.distributed
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner, find_latest_checkpoint
from torch import nn
from torch.utils.data import Dataset

from mmdet_centernet2.engine.train_loop import get_random_state, set_random_state
from tests._tiny import tiny_config, write_dataset

END, VAL = 12, 4


class Noise(Dataset):
    """Images with a random augmentation."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return dict(inputs=index + np.random.rand() + random.random())


class Model(BaseModel):
    """Draws random numbers in its loss, as the sampling of RoIs does."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1000))
        self.losses = []

    def forward(self, inputs, mode):
        if mode == 'predict':
            return inputs
        # from here the random states of processes differ
        torch.rand(get_rank()), np.random.rand(get_rank())
        keep = torch.randperm(1000)[:100]
        loss = (self.weight[keep] - sum(inputs)).square().mean()
        self.losses.append(loss.item())
        return dict(loss=loss)


class Score(BaseMetric):
    """Draws random numbers of its own."""

    def process(self, data_batch, data_samples):
        self.results.append(torch.rand(1).item())

    def compute_metrics(self, results):
        return dict(score=self.score, double=2 * self.score)


class Growing(Hook):
    """Each validation has the best score so far."""

    def before_val_epoch(self, runner):
        runner.val_evaluator.metrics[0].score = runner.iter


def build(folder, keep, resume=True, end=END, workers=0, best='score', **options):
    loader = dict(
        batch_size=2, num_workers=workers, dataset=Noise(), collate_fn=dict(type='pseudo_collate')
    )
    return Runner(
        model=Model(),
        work_dir=str(folder),
        train_dataloader=dict(loader, sampler=dict(type='InfiniteSampler')),
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_evaluator=Evaluator(Score()),
        val_cfg=dict(),
        train_cfg=dict(type='FastResumeTrainLoop', max_iters=end, val_interval=VAL),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        default_hooks=dict(
            checkpoint=dict(
                type='SafeCheckpointHook',
                by_epoch=False,
                interval=1,
                max_keep_ckpts=keep,
                save_best=best,
                rule='greater',
            )
        ),
        custom_hooks=[Growing()],
        randomness=dict(seed=3),
        resume=resume,
        default_scope='mmdet',
        log_level='ERROR',
        experiment_name=f'{folder.name}-{time.time_ns()}',
        **options,
    )


def in_process(*args):
    """Train in a process of its own, which may be killed."""
    return start(train, *args)


def start(function, *args):
    torch.set_num_threads(1)
    process = get_context('fork').Process(target=function, args=args)
    process.start()
    return process


def train_rank(rank, folder, end, workers):
    """One of two processes; writes the losses that it has seen."""
    os.environ['LOCAL_RANK'] = str(rank)  # mmengine asks for it in any case
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/group{end}', rank=rank, world_size=2
    )
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    runner = build(
        folder, 1, True, end, workers, launcher='pytorch', cfg=dict(model_wrapper_cfg=wrapper)
    )
    runner.train()
    torch.save(runner.model.module.losses, folder / f'losses{rank}_{end}')
    torch.distributed.destroy_process_group()


def losses_of_ranks(folder, end, workers):
    processes = [start(train_rank, rank, folder, end, workers) for rank in range(2)]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f'losses{rank}_{end}') for rank in range(2)]


def train(folder, keep, dies_at=None):
    """Train; die just before one of the steps that write or remove files."""
    steps = iter(range(10**6))

    def deadly(function):
        def call(*args, **kwargs):
            if next(steps) == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    if dies_at is not None:
        for name in ('fsync', 'replace', 'remove', 'unlink'):
            setattr(os, name, deadly(getattr(os, name)))
    build(folder, keep).train()


def weights(folder):
    return torch.load(find_latest_checkpoint(folder), weights_only=True)['state_dict']['weight']


def check_folder(folder, keep, before):
    """All checkpoints are whole, the newest not older than before the kill."""
    for path in folder.glob('*.pth'):
        torch.load(path, weights_only=True)
    assert len(list(folder.glob('iter_*.pth'))) <= keep + 1
    latest = find_latest_checkpoint(folder)
    step = torch.load(latest, weights_only=True)['meta']['iter'] if latest else 0
    assert step >= before
    return step


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    build(folder, 1, resume=False).train()
    return weights(folder)


@pytest.mark.slow
@pytest.mark.parametrize('keep', [1, 3])
def test_killed_at_every_step(tmp_path, keep, uninterrupted):
    """Each run dies one step later than the one before."""
    done = 0
    for dies_at in range(1, 100):
        process = in_process(tmp_path, keep, dies_at)
        process.join()
        done = check_folder(tmp_path, keep, done)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert dies_at > 10  # it was killed that often
    assert torch.equal(weights(tmp_path), uninterrupted)
    assert len(list(tmp_path.glob('iter_*.pth'))) == keep
    assert not list(tmp_path.glob('.*'))


@pytest.mark.slow
def test_killed_at_random(tmp_path, uninterrupted):
    delays, done = random.Random(0), 0
    for _ in range(8):
        process = in_process(tmp_path, 1)
        process.join(delays.uniform(0.02, 0.4))
        process.kill()
        process.join()
        done = check_folder(tmp_path, 1, done)
    build(tmp_path, 1).train()
    assert torch.equal(weights(tmp_path), uninterrupted)


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.parametrize('workers', [0, 2])
def test_each_process_goes_on_with_its_own_random_numbers(tmp_path, workers):
    """In its loss and, with workers, in its augmentations."""
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    whole.mkdir()
    parts.mkdir()
    expected = losses_of_ranks(whole, END, workers)
    first, second = losses_of_ranks(parts, 5, workers), losses_of_ranks(parts, END, workers)
    assert [a + b for a, b in zip(first, second)] == expected
    assert torch.equal(weights(parts), weights(whole))
    assert not set(expected[0][1:]) & set(expected[1][1:])


def test_full_disk(tmp_path, monkeypatch, uninterrupted):
    """The checkpoints before it stay, and training can go on."""
    build(tmp_path, 1, resume=False, end=5).train()
    before = sorted(path.name for path in tmp_path.glob('*.pth'))

    def full(file):
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full)
        with pytest.raises(OSError, match='No space left'):
            build(tmp_path, 1).train()
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == before
    assert not list(tmp_path.glob('.*'))
    build(tmp_path, 1).train()
    assert torch.equal(weights(tmp_path), uninterrupted)


@pytest.mark.slow
def test_detector(tmp_path):
    """A whole cascade: random sampling of proposals, augmentations in workers."""
    options = dict(
        train_cfg__type='FastResumeTrainLoop',
        train_cfg__max_iters=6,
        train_cfg__val_interval=3,
        train_dataloader__num_workers=2,
        default_hooks__checkpoint__interval=3,
        log_level='ERROR',
        randomness=dict(seed=1),
    )
    data = write_dataset(tmp_path / 'data')

    def train(name, **more):
        cfg = tiny_config(data, **options, **more)
        cfg.work_dir = str(tmp_path / name)
        cfg.experiment_name = f'{tmp_path.name}-{name}'
        runner = Runner.from_cfg(cfg)
        runner.train()
        # ends the workers; the garbage collector would wait for them
        runner.train_loop.dataloader_iterator = None
        runner.train_loop.dataloader._iterator = None
        return torch.load(tmp_path / name / 'iter_6.pth', weights_only=True)

    whole = train('whole')
    (tmp_path / 'parts').mkdir()
    shutil.copy(tmp_path / 'whole/iter_3.pth', tmp_path / 'parts')
    (tmp_path / 'parts/last_checkpoint').write_text(str(tmp_path / 'parts/iter_3.pth'))
    parts = train('parts', resume=True)
    assert whole['state_dict'].keys() == parts['state_dict'].keys()
    for name, tensor in whole['state_dict'].items():
        assert torch.equal(tensor, parts['state_dict'][name]), name


@pytest.mark.parametrize('best', [['score'], ['double', 'score']])
def test_one_best_checkpoint_for_each_metric(tmp_path, best):
    build(tmp_path, 1, resume=False, best=best).train()
    found = sorted(path.name for path in tmp_path.glob('best_*'))
    assert found == [f'best_{metric}_iter_{END}.pth' for metric in best]


def test_random_state():
    def draw():
        return random.random(), np.random.randn(), np.random.rand(), torch.rand(1).item()

    draw()  # numpy keeps a second normal number
    state = get_random_state()
    expected = draw()
    draw()
    set_random_state(state)
    assert draw() == expected
