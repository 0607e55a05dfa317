"""Training goes on with the images that would have come next."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from tests.test_datasets.test_samplers.labelled import Labelled

pytestmark = pytest.mark.slow

LABELS = [[0]] * 20 + [[0, 1]] * 4 + [[2]]
SIZES = [(4, 3)] * 13 + [(3, 4)] * 12  # wide and tall images
BATCH, STOP, END = 2, 20, 40  # END is more than three epochs
PREFETCH = 2  # batches that a worker of torch loads in advance


class Indexed(Labelled):
    """Gives the index of an image in the place of its picture.

    Args:
        log (Path): Gets a line for each image that is loaded, whichever
            process loads it.
    """

    def __init__(self, log):
        self.log = log
        super().__init__(LABELS, SIZES)

    def __getitem__(self, index):
        with open(self.log, 'a') as file:
            file.write(f'{index}\n')
        return dict(inputs=index)


class Model(BaseModel):
    """One weight, some loss."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode):
        return dict(loss=self.weight.square().sum())


class Record(Hook):
    """Keeps the images of each batch."""

    def __init__(self):
        self.batches = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches.append(list(data_batch['inputs']))


def train(folder, log, max_iters, loop='FastResumeTrainLoop', resume=False, seed=3, **loader):
    """Batches of a training and the number of images that were loaded."""
    record = Record()
    log.unlink(missing_ok=True)
    runner = Runner(
        model=Model(),
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=BATCH, dataset=Indexed(log), collate_fn=dict(type='pseudo_collate'), **loader
        ),
        train_cfg=dict(type=loop, max_iters=max_iters),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=STOP)),
        custom_hooks=[record],
        randomness=dict(seed=seed),
        resume=resume,
        default_scope='mmdet',
        # mmengine shares what has one name and starts in the same second
        experiment_name=f'{folder.parent.name}-{folder.name}-{max_iters}',
    )
    runner.train()
    # ends the workers; the garbage collector would wait for them for 10 s
    runner.train_loop.dataloader_iterator = None
    runner.train_loop.dataloader._iterator = None
    return record.batches, len(log.read_text().split())


def resumed(tmp_path, **options):
    """Batches before and after the break, and images loaded needlessly."""
    folder, log = tmp_path / 'parts', tmp_path / 'log'
    first, _ = train(folder, log, STOP, **options)
    second, loaded = train(folder, log, END, resume=True, **options)
    assert len(second) == END - STOP
    return first + second, loaded - sum(map(len, second))


ASPECT = dict(batch_sampler=dict(type='OriginalAspectRatioBatchSampler'))
LOADERS = {
    'infinite': dict(sampler=dict(type='InfiniteSampler')),
    'infinite-aspect': dict(sampler=dict(type='InfiniteSampler'), **ASPECT),
    'rfs': dict(sampler=dict(type='RepeatFactorSampler', repeat_thr=0.5), **ASPECT),
    'weighted': dict(sampler=dict(type='WeightedClassAwareSampler'), **ASPECT),
    'own-seed': dict(sampler=dict(type='InfiniteSampler', seed=5), **ASPECT),
    # samplers that end with the epoch
    'epochs': dict(sampler=dict(type='DefaultSampler'), drop_last=True),
    'class-aware': dict(sampler=dict(type='ClassAwareSampler', num_sample_class=3), **ASPECT),
}


@pytest.mark.parametrize('loader', LOADERS.values(), ids=LOADERS)
def test_the_same_place(tmp_path, monkeypatch, loader):
    # mmengine's loop sleeps after each epoch
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda _: None)
    loader = dict(loader, num_workers=0)
    expected, _ = train(
        tmp_path / 'mmengine', tmp_path / 'log', END, loop='IterBasedTrainLoop', **loader
    )
    whole, _ = train(tmp_path / 'whole', tmp_path / 'log', END, **loader)
    parts, needless = resumed(tmp_path, **loader)
    assert parts == whole == expected
    assert needless == 0


@pytest.mark.parametrize('persistent', [True, False])
def test_with_workers(tmp_path, persistent):
    loader = dict(LOADERS['rfs'], num_workers=2, persistent_workers=persistent)
    whole, _ = train(tmp_path / 'whole', tmp_path / 'log', END, **loader)
    parts, needless = resumed(tmp_path, **loader)
    assert parts == whole
    assert needless <= BATCH * 2 * PREFETCH  # those after the last iteration


def test_seed_comes_from_the_checkpoint(tmp_path):
    """Where the config has none, as in ours, a new one is drawn each time."""
    torch.manual_seed(0)
    loader = dict(LOADERS['infinite'], num_workers=0)
    parts, _ = resumed(tmp_path, seed=None, **loader)
    meta = torch.load(tmp_path / 'parts/iter_20.pth', weights_only=False)
    whole, _ = train(tmp_path / 'whole', tmp_path / 'log', END, seed=meta['meta']['seed'], **loader)
    assert parts == whole


def test_a_loader_that_is_built_already(tmp_path):
    """It is resumed as mmengine does it."""
    log = tmp_path / 'log'
    loader = Runner.build_dataloader(
        dict(batch_size=BATCH, num_workers=0, dataset=Indexed(log), **LOADERS['infinite']), seed=3
    )
    runner = Runner(
        model=Model(),
        work_dir=str(tmp_path),
        train_dataloader=loader,
        train_cfg=dict(type='FastResumeTrainLoop', max_iters=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_scope='mmdet',
        experiment_name=tmp_path.name,
    )
    runner.train()
    assert len(log.read_text().split()) == 3 * BATCH
