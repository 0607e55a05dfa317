"""Every tool from its command line, on a CPU, with a tiny data set.

The tools run inside this process, as ``python tools/X.py`` would run them,
because a process of its own spends its time on imports.
"""

import errno
import json
import os
import pickle
import re
import resource
import runpy
import shutil
import subprocess
import sys
from argparse import Namespace

import any_device
import get_flops
import mmdet
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from mmdet_centernet2.cli import mmdet_tools
from mmdet_centernet2.cli.checks import PreflightError
from mmdet_centernet2.cli.work_dir import lock_work_dir
from mmdet_centernet2.engine import CenterNet2Visualizer
from tests._tiny import PICTURES, SIZE, tiny_config, write_dataset
from tests.paths import ROOT


def run_tool(name, *args):
    """Run ``tools/NAME`` in this process; strings are split into words."""
    for manager in (MMLogger, MessageHub, Visualizer, CenterNet2Visualizer):
        manager._instance_dict.clear()  # what a new process has not yet
    before = sys.argv
    words = [word for a in args for word in (a.split() if isinstance(a, str) else [str(a)])]
    sys.argv = [str(ROOT / 'tools' / name), *words]
    try:
        runpy.run_path(sys.argv[0], run_name='__main__')
    finally:
        sys.argv = before


def refusal(capsys, name, *args):
    """The message of a tool that ends with status 2."""
    with pytest.raises(SystemExit) as end:
        run_tool(name, *args)
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Holds data, a config and the folder of a training of 2 iterations."""
    folder = tmp_path_factory.mktemp('tools')
    write_dataset(folder / 'data')
    cfg = tiny_config(
        folder / 'data',
        # two pictures of six have no objects; they are trained on too
        train_dataloader__dataset__filter_cfg__filter_empty_gt=False,
        train_dataloader__batch_size=3,
        model__test_cfg__rcnn__score_thr=1e-3,
    )
    cfg.dump(folder / 'tiny.py')
    run_tool('train.py', folder / 'tiny.py', '--work-dir', folder / 'work')
    return folder


@pytest.fixture(scope='module')
def config(folder):
    return folder / 'tiny.py'


@pytest.fixture(scope='module')
def checkpoint(folder):
    return folder / 'work/iter_2.pth'


def scalars(work_dir):
    """What a run logged, line by line."""
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


# -----train and test-----
def test_train_leaves_log_and_checkpoint(folder, checkpoint):
    assert checkpoint.is_file()
    lines = scalars(folder / 'work')
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert len(losses) == 2 and np.isfinite(losses).all()
    assert 'coco/bbox_mAP' in lines[-1]


def test_train_resumes(config, checkpoint, tmp_path):
    options = 'train_cfg.max_iters=3 val_cfg=None val_dataloader=None val_evaluator=None'
    run_tool(
        'train.py', config, f'--work-dir {tmp_path} --resume {checkpoint} --cfg-options {options}'
    )
    steps = [line['step'] for line in scalars(tmp_path) if 'loss' in line]
    assert steps == [3]


def truncate(path):
    path.write_bytes(path.read_bytes()[:5000])


def halve(path):
    Image.open(path).resize((64, 48)).save(path)


@pytest.mark.parametrize(
    'damage, workers, said',
    [
        (truncate, 0, r'images/00\d.png \(5000 bytes'),
        (halve, 1, r'is 64x48 pixels, but .*annotations.json says 128x96'),
    ],
)
def test_train_names_a_bad_image(config, folder, tmp_path, capfd, damage, workers, said):
    """Also one that a worker process meets."""
    images = shutil.copytree(folder / 'data/images', tmp_path / 'images')
    for path in images.iterdir():
        damage(path)
    options = f'--work-dir {tmp_path}/work --cfg-options train_dataloader.num_workers={workers}'
    options += f' train_dataloader.dataset.data_prefix.img={images}'
    found = refusal(capfd, 'train.py', config, options)
    (last,) = [line for line in found.splitlines() if 'error' in line]
    assert last.startswith('train.py: error: ') and re.search(said, last)
    assert 'Traceback' not in found


_HOLD = """import fcntl, os, sys
with open(sys.argv[1], 'w') as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print(os.getpid(), file=file, flush=True)
    print('held', flush=True)
    sys.stdin.read()
"""


def test_a_second_run_in_a_work_dir_is_refused(config, capsys, tmp_path):
    lock = tmp_path / '.running'
    with subprocess.Popen(
        [sys.executable, '-c', _HOLD, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        said = refusal(capsys, 'train.py', config, '--work-dir', tmp_path)
        other.kill()
    assert f'process {other.pid} trains in work_dir {tmp_path}' in said
    assert list(tmp_path.iterdir()) == [lock]
    with lock_work_dir(tmp_path):  # the lock of a dead process
        assert lock.read_text().startswith(f'{os.getpid()} on ')


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def lockf(*args):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr('fcntl.lockf', lockf)
    with lock_work_dir(tmp_path):
        pass


def test_a_work_dir_that_cannot_be_written(config, capsys, tmp_path):
    (tmp_path / 'file').touch()
    said = refusal(capsys, 'train.py', config, '--work-dir', tmp_path / 'file/work')
    assert 'cannot be written to (Not a directory)' in said


def test_a_full_disk_while_logging_is_one_line(config, tmp_path, capsys):
    """A limit on the size of files stands for the full disk."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, usual[1]))
    try:
        said = refusal(capsys, 'train.py', config, '--work-dir', tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert 'train.py: error: ' in said and 'File too large' in said
    assert 'Traceback' not in said and 'Logging error' not in said


def test_test_evaluates_draws_and_dumps(config, checkpoint, tmp_path):
    out = tmp_path / 'results.pkl'
    options = f'--work-dir {tmp_path} --out {out} --show-dir shown'
    options += ' --cfg-options model.test_cfg.rcnn.max_per_img=9'  # each is drawn
    run_tool('test.py', config, checkpoint, options)
    results = pickle.loads(out.read_bytes())
    assert len(results) == len(PICTURES)
    assert len(list(tmp_path.glob('*/shown/*.png'))) == len(PICTURES)
    (metrics,) = tmp_path.glob('*/*.json')
    assert 'coco/bbox_mAP_50' in json.loads(metrics.read_text())


def test_fast_inference_tests_averaged_weights(config, checkpoint, folder, tmp_path):
    both = tmp_path / 'both.py'
    hooks = "[dict(type='EMAHook'), dict(type='FastInferenceHook')]"
    both.write_text(f"_base_ = '{config}'\ncustom_hooks = {hooks}\n")
    run_tool('test.py', both, checkpoint, f'--work-dir {tmp_path}')
    (metrics,) = tmp_path.glob('*/*.json')
    found, plain = json.loads(metrics.read_text()), scalars(folder / 'work')[-1]
    assert found['coco/bbox_mAP_50'] == pytest.approx(plain['coco/bbox_mAP_50'], abs=1e-3)


def test_test_refuses_in_one_message(config, checkpoint, capsys, tmp_path):
    options = f'--work-dir {tmp_path} --cfg-options model.roi_head.bbox_head.num_classes=9'
    said = refusal(capsys, 'test.py', config, checkpoint, options)
    assert said.startswith('test.py: error: ') and 'Traceback' not in said
    assert 'trained for 2 classes, the config has 9' in said
    assert not list(tmp_path.iterdir())


@pytest.mark.dist
@pytest.mark.slow
def test_dist_test_gives_the_metrics_of_one_process(config, checkpoint, folder, tmp_path):
    done = subprocess.run(
        ['bash', ROOT / 'tools/dist_test.sh', config, checkpoint, '2', '--work-dir', tmp_path],
        env=dict(os.environ, PYTHON=sys.executable, OMP_NUM_THREADS='1'),
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    (metrics,) = tmp_path.glob('*/*.json')
    both = json.loads(metrics.read_text())
    alone = scalars(folder / 'work')[-1]
    for name in ('coco/bbox_mAP', 'coco/bbox_mAP_50'):
        assert both[name] == alone[name]


# -----image_demo-----
def test_demo_draws_every_image_of_a_folder(checkpoint, folder, capfd, tmp_path):
    """The checkpoint brings its config; images of one name are kept apart, other files named."""
    images, out = shutil.copytree(folder / 'data/images', tmp_path / 'images'), tmp_path / 'out'
    for path in images.iterdir():
        path.rename(images / path.name.upper())
    original = Image.open(images / '000.PNG')
    for name in ('a.jpg', 'a.png', 'c.gif'):
        original.save(images / name)
    (images / 'd').write_bytes((images / 'a.png').read_bytes())
    options = f'--out-dir {out} --pred-score-thr 0.0 --batch-size 4'
    run_tool('image_demo.py', images, checkpoint, options)
    names = [*(f'{i:03d}' for i in range(len(PICTURES))), 'a.jpg', 'a.png']
    assert sorted(path.stem for path in (out / 'preds').iterdir()) == names
    drawn = sorted((out / 'vis').iterdir())
    assert len(drawn) == len(names)
    assert (np.array(Image.open(drawn[0])) != np.array(original)).any()
    prediction = json.loads((out / 'preds/000.json').read_text())
    assert prediction.keys() == {'labels', 'scores', 'bboxes', 'label_names'}
    assert len(prediction['bboxes']) > 0
    assert re.search('2 files of .* are skipped.* c.gif, d', ''.join(capfd.readouterr()))


def test_demo_keeps_its_pictures_to_itself(config, checkpoint, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = f'--weights {checkpoint} --no-save-vis --no-save-pred'
    run_tool('image_demo.py', folder / 'data/images/000.png', config, options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'change, said',
    [
        (dict(inputs='nowhere.jpg'), 'nowhere.jpg does not exist'),
        (dict(inputs='.'), 'holds no image'),
        (dict(inputs='http://127.0.0.1:9/a.jpg'), 'a.jpg cannot be fetched'),  # nobody listens
        (dict(model='nowhere.py'), 'nowhere.py does not exist'),
        (dict(model='nowhere'), 'Cannot find model: nowhere in mmdet. Give'),
        (dict(weights='nowhere.pth'), 'nowhere.pth: does not exist'),
        (dict(device='cuda:0'), '--device cuda:0'),
        (dict(device='cpu --show'), '--show cannot open a window'),
    ],
)
def test_demo_refuses(config, checkpoint, folder, capsys, tmp_path, monkeypatch, change, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    image = folder / 'data/images/000.png'
    given = dict(inputs=image, model=config, weights=checkpoint, device='cpu')
    line = '{inputs} {model} --weights {weights} --device {device}'.format(**{**given, **change})
    assert said in refusal(capsys, 'image_demo.py', line)


def test_demo_names_a_truncated_image_and_keeps_the_rest(
    config, checkpoint, folder, capsys, tmp_path
):
    images, out = shutil.copytree(folder / 'data/images', tmp_path / 'images'), tmp_path / 'out'
    truncate(images / '001.png')
    options = f'--weights {checkpoint} --out-dir {out}'
    said = refusal(capsys, 'image_demo.py', images, config, options)
    assert '001.png (5000 bytes) is truncated' in said
    assert (out / 'vis/000.png').is_file()


RUNS = "__import__('pathlib').Path('ran').touch()"


@pytest.mark.parametrize(
    'before, after',
    [
        ('', f'\n{RUNS}\n'),
        ('', "\nmodel=dict(type='os.mkdir', path='ran')\n"),
        ("type='nms'", f'type="{RUNS}"'),
    ],
)
def test_demo_does_not_run_a_checkpoints_config(
    checkpoint, folder, capsys, tmp_path, monkeypatch, before, after
):
    monkeypatch.chdir(tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    text = content['meta']['cfg']
    assert before in text
    content['meta']['cfg'] = text.replace(before, after) if before else text + after
    content['message_hub']['runtime_info']['cfg'] = RUNS  # mmengine would execute it
    torch.save(content, 'model.pth')
    said = refusal(capsys, 'image_demo.py', folder / 'data/images/000.png', 'model.pth')
    assert 'Give the config file' in said and 'Traceback' not in said
    assert not (tmp_path / 'ran').exists()


def test_resuming_does_not_run_a_checkpoints_config(
    config, checkpoint, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    content['meta']['config'] = RUNS
    torch.save(content, 'model.pth')
    said = refusal(capsys, 'train.py', config, '--resume', 'model.pth')
    assert "holds meta['config']" in said
    assert not (tmp_path / 'ran').exists()


def test_mmdets_inferencer_takes_our_config(config, checkpoint, folder):
    inferencer = DetInferencer(
        model=str(config), weights=str(checkpoint), device='cpu', show_progress=False
    )
    assert inferencer.model.dataset_meta['classes'] == ('light', 'dark')
    image = folder / 'data/images/000.png'
    from_file = inferencer(str(image))['predictions'][0]
    pixels = np.array(Image.open(image))[..., ::-1]
    from_array = inferencer(pixels)['predictions'][0]
    assert len(from_file['scores']) > 0
    np.testing.assert_allclose(from_file['scores'], from_array['scores'])


# -----analysis-----
@pytest.mark.parametrize(
    'task, unit',
    [('inference', 'ms/img (median'), ('dataloader', 'ms/batch'), ('dataset', 'ms/img')],
)
def test_benchmark_measures_on_a_cpu(config, tmp_path, task, unit):
    """Also where the data ends long before mmdet's 2000 rounds."""
    options = f'--task {task} --num-warmup 2 --repeat-num 2 --work-dir {tmp_path}'
    run_tool('analysis_tools/benchmark.py', config, options)
    log = (tmp_path / 'benchmark.log').read_text()
    assert 'Overall' in log and unit in log


def test_benchmark_counts_measured_images_only(config, checkpoint, monkeypatch):
    measured = any_device.AnyDeviceInferenceBenchmark(
        Config.fromfile(config), str(checkpoint), False, False, max_iter=5, num_warmup=2
    )
    ticks = iter([9.0, 9.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr(measured, '_time_step', lambda data: next(ticks))
    result = measured.run()
    assert result['seconds'] == [1.0, 2.0, 3.0]
    assert result['avg_fps'] == pytest.approx(0.5)


@pytest.mark.parametrize('task', ['inference', 'dataset'])
def test_benchmark_refuses_when_nothing_is_left_to_measure(config, capsys, task):
    options = f'--task {task} --num-warmup 6'
    said = refusal(capsys, 'analysis_tools/benchmark.py', config, options)
    (line,) = [line for line in said.splitlines() if 'error' in line]
    assert line.startswith('benchmark.py: error: 6 iterations') and '--num-warmup' in line


def test_benchmark_without_psutil(config, capsys, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    said = refusal(capsys, 'analysis_tools/benchmark.py', config)
    assert 'pip install psutil' in said


def flops_printed(text):
    """Multiply-adds and parameters in the words of mmdet's tool."""
    found = re.findall(r'(?m)^(?:Flops|Params): ([\d.]+)([KMGT])$', text)
    return [float(number) * dict(K=1e3, M=1e6, G=1e9, T=1e12)[unit] for number, unit in found]


@pytest.mark.slow
def test_flops_against_torchs_own_counter(config, capsys):
    run_tool('analysis_tools/get_flops.py', config, '--num-images', '1')
    from_data = flops_printed(capsys.readouterr().out)
    run_tool('analysis_tools/get_flops.py', config, '--shape', *SIZE)
    blank = flops_printed(capsys.readouterr().out)
    assert blank == from_data

    model = MODELS.build(Config.fromfile(config).model).eval()
    batch = model.data_preprocessor(get_flops.blank_batch(*SIZE))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**batch, mode='tensor')
    # torch counts multiplications and additions, mmengine the pairs
    assert blank[0] == pytest.approx(counter.get_total_flops() / 2, rel=0.02)
    assert blank[1] == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.01)


def test_browse_writes_the_training_images(config, tmp_path):
    run_tool('analysis_tools/browse_dataset.py', config, '--not-show', '--output-dir', tmp_path)
    assert len(list(tmp_path.iterdir())) == len(PICTURES)


def test_browse_without_a_screen(config, capsys, monkeypatch):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    assert '--not-show --output-dir' in refusal(capsys, 'analysis_tools/browse_dataset.py', config)


@pytest.mark.parametrize(
    'tool',
    ['train.py', 'test.py']
    + [f'analysis_tools/{name}.py' for name in ('benchmark', 'get_flops', 'browse_dataset')],
)
def test_help_is_mmdets(tool, capsys):
    with pytest.raises(SystemExit) as end:
        run_tool(tool, '--help')
    assert end.value.code == 0
    assert '--cfg-options' in capsys.readouterr().out


# -----finding mmdet's tools-----
def test_mmdet_without_its_tools(monkeypatch, tmp_path):
    monkeypatch.setattr(mmdet, '__file__', str(tmp_path / 'site/mmdet/__init__.py'))
    with pytest.raises(PreflightError, match='came without its tools'):
        mmdet_tools.find_mmdet_tool('train.py')
    clone = tmp_path / 'site/tools/train.py'  # as in a clone of mmdet
    clone.parent.mkdir(parents=True)
    clone.touch()
    assert mmdet_tools.find_mmdet_tool('train.py') == clone


# -----shell scripts-----
@pytest.fixture
def fake_srun(tmp_path):
    """An ``srun`` that only writes down what it was asked."""
    program = tmp_path / 'bin/srun'
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    return dict(os.environ, PATH=f'{program.parent}:{os.environ["PATH"]}')


@pytest.mark.parametrize(
    'script, fourth', [('slurm_train.sh', '--work-dir=fourth'), ('slurm_test.sh', 'fourth')]
)
def test_slurm_scripts_pass_everything_on(fake_srun, script, fourth):
    env = dict(fake_srun, GPUS='16', GPUS_PER_NODE='4', CPUS_PER_TASK='3')
    env['SRUN_ARGS'] = '--quiet --exclusive'
    line = ['bash', ROOT / 'tools' / script, 'part', 'job', 'a b.py', 'fourth']
    line += ['--cfg-options', 'x=1']
    done = subprocess.run(line, env=env, text=True, check=True, stdout=subprocess.PIPE)
    asked = done.stdout.splitlines()
    given = '--job-name=job --gres=gpu:4 --ntasks=16 --ntasks-per-node=4 --cpus-per-task=3'
    assert {'part', '--quiet', '--exclusive', *given.split()} <= set(asked)
    tool = str(ROOT / 'tools' / script.replace('slurm_', ''))
    last = ['a b.py', fourth, '--cfg-options', 'x=1', '--launcher=slurm']
    assert asked[asked.index(tool.replace('.sh', '.py')) + 1 :] == last


@pytest.mark.parametrize(
    'script, args',
    [
        ('dist_train.sh', []),
        ('dist_train.sh', ['config.py']),
        ('dist_train.sh', ['config.py', 'two']),
        ('dist_test.sh', ['config.py', 'weights.pth']),
        ('slurm_train.sh', ['part', 'job']),
        ('slurm_test.sh', []),
    ],
)
def test_scripts_say_how_they_are_called(script, args):
    done = subprocess.run(
        ['bash', ROOT / 'tools' / script, *args], text=True, stderr=subprocess.PIPE
    )
    assert done.returncode == 2
    assert f'tools/{script} ' in done.stderr


@pytest.mark.parametrize(
    'launcher, device, said', [('slurm', 'cpu', 'needs GPUs'), ('pytorch', 'cuda', 'RANK, WORLD')]
)
def test_launchers_that_cannot_start(launcher, device, said, monkeypatch):
    monkeypatch.setattr(mmdet_tools, 'get_device', lambda: device)
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    with pytest.raises(PreflightError, match=said) as error:
        mmdet_tools.prepare_launch(Namespace(launcher=launcher))
    assert 'tools/dist_train.sh' in str(error.value)
