"""Training goes on with the images that would have come next."""
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from .labelled import Labelled

LABELS = [[0]] * 20 + [[0, 1]] * 4 + [[2]]


class Indexed(Labelled):
    """Gives the index of an image in the place of its picture."""

    def __getitem__(self, index):
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


def train(folder, sampler, max_iters, resume=False):
    record = Record()
    runner = Runner(
        model=Model(),
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            dataset=Indexed(LABELS),
            sampler=sampler,
            batch_sampler=dict(type='OriginalAspectRatioBatchSampler'),
            collate_fn=dict(type='pseudo_collate')),
        train_cfg=dict(by_epoch=False, max_iters=max_iters),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook', by_epoch=False, interval=20)),
        custom_hooks=[record],
        randomness=dict(seed=3),
        resume=resume,
        default_scope='mmdet',
        # mmengine shares what has one name and starts in the same second
        experiment_name=f'{folder.parent.name}-{folder.name}-{max_iters}')
    runner.train()
    return record.batches


@pytest.mark.parametrize('sampler', [
    dict(type='RepeatFactorSampler', repeat_thr=0.5),
    dict(type='WeightedClassAwareSampler'),
])
def test_the_same_place(tmp_path, sampler):
    whole = train(tmp_path / 'whole', sampler, 40)
    first = train(tmp_path / 'parts', sampler, 20)
    second = train(tmp_path / 'parts', sampler, 40, resume=True)
    assert len(whole) == 40  # more than one epoch
    assert first + second == whole
