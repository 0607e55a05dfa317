"""Two processes train as one does with the same images in its batch.

What is equal, and when. Let every process hold as many images as the others.

- First stage: a process divides its sum over locations by the *mean* number
  of positives of all processes, so the mean of the losses over the processes
  (and the mean of the gradients, which DDP takes) is that of one process with
  the whole batch. This needs one positive for each process on average: below
  that the floor of one positive holds, and the mean over two
  processes is half of what one process gets.
- Second stage: a process takes the mean over its own RoIs, so the
  means agree if all processes have equally many RoIs. Here the sampler takes
  64 of the 100 proposals of every image, the first ones instead of random
  ones, because one process and two draw differently from one seed.
- Images are of one size: otherwise one batch pads the smaller ones, which
  group norm sees.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.distributed.elastic.utils.distributed import get_free_port

from mmdet_centernet2.cli import mmdet_tools
from tests._tiny import tiny_config, write_dataset
from tests.paths import CONFIGS, ROOT
from tests.test_configs.recipes import shipped_configs
from tests.test_configs.test_every_config_runs import shrink
from tests.test_tools.ddp_every_config import draw_classes

pytestmark = [pytest.mark.dist, pytest.mark.slow]

WORLD = 2
RTOL = 1e-5
QUICKSTART = CONFIGS / 'centernet2/centernet2_mobilenet-v2_fpn_tree-tiles.py'

# Iteration i takes pictures 2 i and 2 i + 1, one on each process.
BOTH_FULL, ONE_EMPTY, ONE_POSITIVE, BOTH_EMPTY = range(4)
SIZE = (256, 256)  # so large that group norm has some cells on each level
PICTURES = (
    ((20, 24, 80, 60, 1), (20, 12, 220, 168, 2)),  # the second on two levels
    ((40, 40, 100, 100, 2), (168, 16, 60, 60, 1), (60, 180, 40, 40, 1)),
    ((10, 80, 88, 80, 1), (4, 4, 240, 240, 1), (180, 148, 48, 32, 2)),
    (),
    (),
    ((60, 60, 64, 48, 2),),  # half diagonal 40 px: one level, one positive
    (),
    (),
)
NORMALISED_BY_POSITIVES = ('rpn_loss_centernet_agn_pos', 'rpn_loss_centernet_agn_neg')


def write_config(folder: Path, name: str, batch_size: int) -> Path:
    """A training of four iterations that changes no weight."""
    records = folder / f'{name}_records'
    records.mkdir()
    cfg = tiny_config(
        folder / 'data',
        SIZE,
        custom_imports__imports=['mmdet_centernet2', 'ddp_probe'],
        custom_hooks=[dict(type='RecordingHook', folder=str(records))],
        load_from=str(folder / 'start.pth'),
        train_cfg__max_iters=len(PICTURES) // 2,
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None,
        optim_wrapper__optimizer__lr=0.0,
        optim_wrapper__clip_grad=None,
        param_scheduler=None,
        train_dataloader__batch_size=batch_size,
        train_dataloader__batch_sampler=None,
        train_dataloader__sampler=dict(type='DefaultSampler', shuffle=False),
        train_dataloader__dataset__filter_cfg__filter_empty_gt=False,
        model__train_cfg__rcnn__0__sampler__type='FirstComeSampler',
    )
    for transform in cfg.train_dataloader.dataset.pipeline:
        if transform.type == 'RandomFlip':
            transform.prob = 0.0
    path = folder / f'{name}.py'
    cfg.dump(path)
    return path


def save_start(folder: Path) -> None:
    """Write the weights that both trainings start from."""
    # with mmdet's usual zeros no gradient would reach most convolutions
    cfg = tiny_config(folder / 'data', SIZE, model__backbone__zero_init_residual=False)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), folder / 'start.pth')


@pytest.fixture(scope='module')
def records(tmp_path_factory) -> dict[str, list[list[dict]]]:
    """Losses and gradients as ``records[run][iteration][rank]``."""
    folder = tmp_path_factory.mktemp('ddp')
    write_dataset(folder / 'data', PICTURES, SIZE)
    save_start(folder)
    one = write_config(folder, 'one', batch_size=WORLD)
    two = write_config(folder, 'two', batch_size=1)
    env = dict(
        os.environ,
        OMP_NUM_THREADS='1',
        PYTHON=sys.executable,
        PYTHONPATH=os.pathsep.join(
            [str(ROOT), str(Path(__file__).parent), os.environ['PYTHONPATH']]
        ),
    )
    commands = {
        'one': [sys.executable, ROOT / 'tools/train.py', one],
        'two': ['bash', ROOT / 'tools/dist_train.sh', two, str(WORLD)],
    }
    for name, command in commands.items():
        done = subprocess.run(
            [*command, '--work-dir', folder / f'{name}_work'],
            env=env,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout[-5000:]
    return {
        name: [
            [torch.load(folder / f'{name}_records/iter{i}_rank{rank}.pth') for rank in range(ranks)]
            for i in range(len(PICTURES) // 2)
        ]
        for name, ranks in (('one', 1), ('two', WORLD))
    }


def mean_loss(ranks: list[dict], name: str) -> float:
    return sum(r['losses'][name].item() for r in ranks) / len(ranks)


def loss_names(ranks: list[dict]) -> list[str]:
    """All losses of a recorded iteration, without the accuracies."""
    return [name for name in ranks[0]['losses'] if 'loss' in name]


def test_every_loss_was_recorded(records):
    expected = {'loss', 'rpn_loss_centernet_loc', *NORMALISED_BY_POSITIVES}
    expected |= {f's{k}.loss_{part}' for k in range(3) for part in ('cls', 'bbox')}
    for run in records.values():
        for ranks in run:
            for rank in ranks:
                assert set(loss_names([rank])) == expected


@pytest.mark.parametrize('iteration', [BOTH_FULL, ONE_EMPTY])
def test_losses_equal_those_of_one_process(records, iteration):
    one, two = records['one'][iteration], records['two'][iteration]
    for name in loss_names(one):
        assert mean_loss(two, name) == pytest.approx(mean_loss(one, name), rel=RTOL), name


@pytest.mark.parametrize('iteration', [BOTH_FULL, ONE_EMPTY])
def test_gradients_equal_those_of_one_process(records, iteration):
    (one,), two = records['one'][iteration], records['two'][iteration]
    alive = [grad.any() for grad in one['grads'].values()]
    assert sum(alive) > 0.9 * len(alive)
    for rank in two:
        assert rank['grads'].keys() == one['grads'].keys()
        for name, expected in one['grads'].items():
            error = (rank['grads'][name] - expected).abs().max()
            assert error <= RTOL * expected.abs().max(), name


def test_ranks_saw_different_images(records):
    """Otherwise equality would follow from both doing all the work."""
    first, second = records['two'][BOTH_FULL]
    assert first['losses']['loss'] != second['losses']['loss']
    full, empty = records['two'][ONE_EMPTY]
    assert full['losses']['rpn_loss_centernet_loc'] > 0
    assert empty['losses']['rpn_loss_centernet_loc'] == 0
    assert empty['losses']['rpn_loss_centernet_agn_pos'] == 0


@pytest.mark.parametrize('iteration', [ONE_POSITIVE, BOTH_EMPTY])
def test_floor_of_one_positive_halves_the_mean(records, iteration):
    """As in the original, whose floor holds after the mean is taken."""
    one, two = records['one'][iteration], records['two'][iteration]
    for name in NORMALISED_BY_POSITIVES:
        assert mean_loss(two, name) == pytest.approx(mean_loss(one, name) / WORLD, rel=RTOL), name
    for name in loss_names(one):
        if name.startswith('s'):
            assert mean_loss(two, name) == pytest.approx(mean_loss(one, name), rel=RTOL), name


def test_ranks_agree_after_a_batch_without_objects(records):
    first, second = records['two'][BOTH_EMPTY]
    assert first['losses']['rpn_loss_centernet_agn_neg'] > 0
    for name, grad in first['grads'].items():
        assert torch.isfinite(grad).all()
        assert torch.equal(grad, second['grads'][name]), name


# -----every shipped config-----
@pytest.fixture(scope='module')
def every_config(tmp_path_factory) -> list[dict]:
    """What each of two processes wrote; see ``ddp_every_config``."""
    folder = tmp_path_factory.mktemp('every_config')
    env = dict(
        os.environ,
        OMP_NUM_THREADS='1',
        WORLD_SIZE=str(WORLD),
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(get_free_port()),
    )
    running = [
        subprocess.Popen(
            [sys.executable, '-m', 'tests.test_tools.ddp_every_config', folder],
            env=dict(env, RANK=str(rank), LOCAL_RANK=str(rank)),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=(folder / f'stderr{rank}').open('w'),
        )
        for rank in range(WORLD)
    ]
    ends = [process.wait(timeout=600) for process in running]
    assert ends == [0] * WORLD, (folder / 'stderr0').read_text()[-5000:]
    return [json.loads((folder / f'rank{rank}.json').read_text()) for rank in range(WORLD)]


@pytest.mark.parametrize('name', sorted(shipped_configs()))
def test_every_config_steps_twice(every_config, name):
    first, second = (found[name] for found in every_config)
    assert not isinstance(first, str), first
    assert torch.tensor(first).isfinite().all()
    assert first[:2] != second[:2]  # losses of other images
    assert first[2] == second[2]  # weights


def test_quickstarts_config_from_the_command_line(tmp_path):
    cfg = shrink(Config.fromfile(QUICKSTART), tmp_path)
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.train_cfg.max_iters = 3
    cfg.default_hooks.logger.interval = 1
    cfg.dump(tmp_path / 'tiny.py')
    done = subprocess.run(
        ['bash', ROOT / 'tools/dist_train.sh', tmp_path / 'tiny.py', '2'],
        env=dict(os.environ, OMP_NUM_THREADS='1', PYTHON=sys.executable),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert len(re.findall(r'Iter\(train\) \[./3\]', done.stdout)) == 3


def test_sync_bn_needs_gpus(monkeypatch):
    said = []
    monkeypatch.setattr(mmdet_tools, 'print_log', lambda text, *_: said.append(text))
    norm = dict(type='SyncBN', requires_grad=True)
    cfg = Config(dict(model=dict(neck=dict(norm_cfg=norm), heads=[dict(norm_cfg=dict(norm))])))
    options = mmdet_tools.cpu_options(cfg)
    cfg.merge_from_dict(options)
    assert cfg.model.neck.norm_cfg == dict(type='BN', requires_grad=True)
    assert cfg.model.heads[0].norm_cfg.type == 'BN'
    assert len(said) == 1 and 'SyncBN needs GPUs' in said[0]


# -----the federated loss-----
def test_processes_with_one_seed_draw_different_classes(every_config):
    first, second = (found['draws'] for found in every_config)
    for ours, others in zip(first[0], second[0]):
        assert len(set(ours) & set(others)) < 25  # of 49
    for once, again in (first, second):
        assert once == again  # the same seed, the same classes


def test_the_first_process_draws_as_one_alone(every_config):
    assert every_config[0]['draws'][0] == draw_classes()
    # a change would give other results for the same seed
    assert draw_classes()[0][:5] == [691, 1201, 1142, 132, 200]
