"""What the tools refuse before the work starts, and in which words."""

import copy
import hashlib
from argparse import Namespace

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict

from mmdet_centernet2.checkpoint import CheckpointError, Fit
from mmdet_centernet2.checkpoint.match import explain_mismatch
from mmdet_centernet2.cli import checks
from mmdet_centernet2.cli.checks import PreflightError, leaf_datasets
from tests._tiny import tiny_config, write_dataset

NUM_CLASSES = 'model.roi_head.bbox_head.num_classes'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A folder with data, a config and a finished run's checkpoint."""
    folder = tmp_path_factory.mktemp('run')
    write_dataset(folder / 'data')
    cfg = tiny_config(folder / 'data')
    cfg.dump(folder / 'tiny.py')
    state = MODELS.build(copy.deepcopy(cfg.model)).state_dict()
    meta = dict(dataset_meta=dict(classes=('light', 'dark')))
    torch.save(dict(state_dict=state, optimizer={}, meta=meta), folder / 'good.pth')
    torch.save(state, folder / 'bare.pth')
    content = (folder / 'good.pth').read_bytes()
    (folder / 'cut.pth').write_bytes(content[: len(content) // 2])
    (folder / 'empty.pth').write_bytes(b'')
    torch.save({'other.weight': torch.ones(3)}, folder / 'other.pth')
    return folder


def arguments(run, **kwargs):
    """What mmdet's parsers would give."""
    given = dict(
        config=str(run / 'tiny.py'),
        cfg_options=None,
        amp=False,
        launcher='none',
        resume=None,
        work_dir=str(run / 'work'),
        out=None,
        checkpoint=str(run / 'good.pth'),
    )
    return Namespace(**{**given, **kwargs})


def message(check, *args):
    with pytest.raises((PreflightError, CheckpointError)) as error:
        check(*args)
    return str(error.value)


def contents(folder):
    """Every file below a folder with the hash of what is in it."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob('*')
        if path.is_file()
    }


def test_a_good_run_passes_and_touches_nothing(run):
    before = contents(run)
    checks.check_train(arguments(run))
    checks.check_test(arguments(run))
    checks.check_test(arguments(run, checkpoint=str(run / 'bare.pth')))
    checks.check_train(arguments(run, resume=str(run / 'good.pth')))
    assert contents(run) == before


# -----configs and data-----
def test_missing_config_offers_one_like_it(run):
    said = message(checks.check_train, arguments(run, config=f'{run.parent}/{run.name}/tini.py'))
    assert 'tini.py does not exist' in said
    assert f'Did you mean {run / "tiny.py"}?' in said


@pytest.mark.parametrize('base', ['none.py', 'mmdet_centernet2::centernet2/none.py'])
def test_missing_base(run, base):
    (run / 'child.py').write_text(f'_base_ = {base!r}')
    said = message(checks.check_train, arguments(run, config=str(run / 'child.py')))
    assert 'child.py cannot be read' in said and 'none.py' in said
    (run / 'child.py').unlink()


def test_all_missing_files_are_said_at_once(run):
    options = {
        'train_dataloader.dataset.ann_file': 'lost.json',
        'val_dataloader.dataset.data_prefix.img': 'lost_images/',
        'val_evaluator.ann_file': '/lost/evaluator.json',
    }
    said = message(checks.check_train, arguments(run, cfg_options=options))
    assert str(run / 'data' / 'lost.json') in said
    assert 'train_dataloader.dataset.ann_file' in said
    assert 'val_dataloader.dataset.data_prefix.img' in said
    assert 'val_evaluator.ann_file' in said
    options['train_dataloader.dataset.data_root'] = '/no/such/folder/'
    said = message(checks.check_train, arguments(run, cfg_options=options))
    assert said.count('/no/such/folder') == 1 and 'lost.json' not in said
    assert '--cfg-options train_dataloader.dataset.data_root=' in said


def test_only_the_data_of_this_run_is_needed(run):
    options = {'test_dataloader.dataset.data_root': '/no/such/folder/'}
    checks.check_train(arguments(run, cfg_options=options))
    said = message(checks.check_test, arguments(run, cfg_options=options))
    assert 'test_dataloader' in said


def test_wrapped_data_sets_are_found():
    inner = dict(data_root='a/', ann_file='b.json')
    wrapped = dict(dataset=dict(datasets=[inner, dict(dataset=inner)]))
    keys = [key for key, _ in leaf_datasets(wrapped, 'd')]
    assert keys == ['d.dataset.datasets.0', 'd.dataset.datasets.1.dataset']


def test_remote_data_is_not_looked_for():
    remote = dict(data_root='s3://bucket/', ann_file='x.json', data_prefix=dict(img='y/'))
    backend = dict(data_root='/no/such/', ann_file='x.json', backend_args=dict(backend='petrel'))
    datasets = dict(datasets=[remote, backend])
    checks.check_data(Config(dict(loader=dict(dataset=datasets))), ['loader'], [])


# -----classes and evaluators-----
@pytest.mark.parametrize('count', [1, 80])
def test_heads_with_another_number_of_classes(run, count):
    options = {NUM_CLASSES: count}
    said = message(checks.check_train, arguments(run, cfg_options=options))
    assert "has 2 classes ('light', 'dark')" in said
    assert f'{NUM_CLASSES} = {count}' in said and f'{NUM_CLASSES}=2' in said


def test_heads_of_the_proposals_have_classes_of_their_own():
    cfg = Config(
        dict(
            model=dict(
                rpn_head=dict(num_classes=1),
                bbox_head=dict(num_classes=3),
                roi_head=dict(mask_head=dict(num_classes=4)),
            )
        )
    )
    with pytest.raises(PreflightError) as error:
        checks.check_num_classes(cfg, ('a', 'b', 'c'), 'key')
    assert 'model.roi_head.mask_head.num_classes = 4' in str(error.value)
    assert 'rpn' not in str(error.value)


@pytest.mark.parametrize(
    'check, key, classes, said',
    [
        (
            checks.check_train,
            'val_dataloader',
            ('dark', 'light'),
            'the same classes in another order than train_dataloader.dataset',
        ),
        (checks.check_train, 'val_dataloader', ('dark', 'grey'), 'has other classes than'),
        (checks.check_train, 'train_dataloader', None, 'must be a list of names, got None'),
        (checks.check_test, 'test_dataloader', ('dark', 'light'), 'order than the checkpoint'),
        (checks.check_train, 'train_dataloader', 'light', "the text 'light'"),
    ],
)
def test_classes_that_do_not_fit(run, check, key, classes, said):
    options = {f'{key}.dataset.metainfo.classes': classes}
    text = message(check, arguments(run, cfg_options=options))
    assert f'{key}.dataset.metainfo.classes' in text and said in text


def test_evaluator_that_reads_another_file(run):
    other = run / 'data' / 'other.json'
    other.write_text('{}')
    for check, key in (
        (checks.check_train, 'val_evaluator'),
        (checks.check_test, 'test_evaluator'),
    ):
        said = message(check, arguments(run, cfg_options={f'{key}.ann_file': str(other)}))
        assert f"{key}.ann_file = '{other}'" in said and 'dataloader' in said
    other.unlink()


# -----devices-----
@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    monkeypatch.setattr(checks, 'get_device', lambda: 'cpu')


def test_amp_needs_a_gpu(run, no_gpu):
    assert '--amp needs a GPU' in message(checks.check_train, arguments(run, amp=True))


def test_cuda_that_is_not_there(no_gpu, monkeypatch):
    monkeypatch.setattr(torch.version, 'cuda', '12.6')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    said = message(checks.check_devices, Namespace(device='cuda:1'))
    assert '--device cuda:1' in said and "CUDA_VISIBLE_DEVICES=''" in said
    monkeypatch.setattr(torch.version, 'cuda', None)
    said = message(checks.check_devices, Namespace(device='cuda:1'))
    assert 'built without CUDA' in said
    checks.check_devices(Namespace(device='cpu'))


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    said = message(checks.check_devices, Namespace(launcher='pytorch'))
    assert '4 processes' in said and '2 GPUs' in said


# -----checkpoints-----
@pytest.mark.parametrize(
    'name, said',
    [
        ('nowhere.pth', 'does not exist'),
        ('empty.pth', 'the file is empty'),
        ('cut.pth', 'damaged or cut off'),
        ('other.pth', 'is for another model'),
    ],
)
def test_bad_checkpoint(run, name, said):
    before = contents(run)
    path = str(run / name)
    text = message(checks.check_test, arguments(run, checkpoint=path))
    assert path in text and said in text
    options = dict(load_from=path)
    text = message(checks.check_train, arguments(run, cfg_options=options))
    assert path in text and said in text
    assert contents(run) == before


def test_code_in_a_checkpoint_is_refused(run, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath('trapped').touch, ())

    torch.save(dict(state_dict=Trap()), tmp_path / 'trap.pth')
    text = message(checks.check_test, arguments(run, checkpoint=str(tmp_path / 'trap.pth')))
    assert 'could run code' in text
    assert not (tmp_path / 'trapped').exists()


@pytest.mark.parametrize('name', ['good.pth', 'bare.pth'])
def test_other_number_of_classes_in_a_test(run, name):
    text = message(
        checks.check_test, arguments(run, checkpoint=str(run / name), cfg_options={NUM_CLASSES: 7})
    )
    assert 'trained for 2 classes, the config has 7' in text
    assert f'{NUM_CLASSES}=2' in text  # what to do
    assert (
        'roi_head.bbox_head.0.fc_cls.weight: [3, 64] in the checkpoint, [8, 64] in the model'
    ) in text


SEVEN = {
    NUM_CLASSES: 7,
    'train_dataloader.dataset.metainfo.classes': tuple('abcdefg'),
    'val_dataloader.dataset.metainfo.classes': tuple('abcdefg'),
}


def test_other_number_of_classes_when_fine_tuning(run, monkeypatch):
    """Goes on, with every tensor that starts anew counted and named."""
    warned = []
    monkeypatch.setattr(checks, 'print_log', lambda text, *args: warned.append(text))
    checks.check_train(arguments(run, cfg_options={**SEVEN, 'load_from': str(run / 'good.pth')}))
    (text,) = warned
    anew = [
        f'roi_head.bbox_head.{stage}.fc_cls.{part}'
        for stage in range(3)
        for part in ('weight', 'bias')
    ]
    assert '6 of the model keep their initial values' in text
    assert 'trained for 2 classes, the config has 7' in text
    assert [line.strip() for line in text.splitlines()[1:]] == anew


def test_whole_fit_warns_of_nothing(run, monkeypatch):
    monkeypatch.setattr(checks, 'print_log', pytest.fail)
    checks.check_train(arguments(run, cfg_options=dict(load_from=str(run / 'good.pth'))))


def test_resuming_without_an_optimizer(run):
    text = message(checks.check_train, arguments(run, resume=str(run / 'bare.pth')))
    assert f'--cfg-options load_from={run / "bare.pth"}' in text


def test_broken_newest_checkpoint_names_the_older_ones(run, tmp_path):
    """A run that was killed while it saved can go on from before."""
    work = tmp_path / 'work'
    work.mkdir()
    for name, source in (('iter_1.pth', 'good'), ('iter_2.pth', 'cut')):
        (work / name).write_bytes((run / f'{source}.pth').read_bytes())
    (work / 'last_checkpoint').write_text(str(work / 'iter_2.pth'))
    before = contents(work)
    checks.check_train(arguments(run, resume='auto', work_dir=str(tmp_path)))  # nothing there
    text = message(checks.check_train, arguments(run, resume='auto', work_dir=str(work)))
    assert str(work / 'iter_1.pth') in text
    assert contents(work) == before


def test_wrong_ending_of_the_results_file(run):
    assert '.pkl' in message(checks.check_test, arguments(run, out='results.json'))


def test_other_processes_leave_the_checks_to_the_first(run, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '1')
    checks.check_test(arguments(run, checkpoint='nowhere.pth'))


def test_keys_of_classes_follow_lists():
    cfg = ConfigDict(
        model=dict(
            rpn_head=dict(num_classes=1),
            roi_head=dict(bbox_head=[dict(num_classes=5), dict(num_classes=6)]),
        )
    )
    name = 'roi_head.bbox_head.1.fc_cls.weight'
    fit = Fit([], [], {name: ('[3, 64]', '[7, 64]')})
    said = explain_mismatch(cfg, {name: torch.ones(3, 64)}, fit)
    assert 'trained for 2 classes, the config has 6' in said
    assert 'model.roi_head.bbox_head.1.num_classes=2' in said
