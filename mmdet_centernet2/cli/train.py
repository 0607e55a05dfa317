"""``centernet2 train DATA``: from a folder of labelled images to a detector and a report."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from statistics import median

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint
from rich.console import Console

from mmdet_centernet2.cli.check_dataset import check_config
from mmdet_centernet2.cli.own_config import fit_time, make_plan, write_config
from mmdet_centernet2.cli.own_data import find_data
from mmdet_centernet2.cli.report import write_report
from mmdet_centernet2.cli.why import write_page
from mmdet_centernet2.cli.work_dir import lock_work_dir
from mmdet_centernet2.utils.errors import PreflightError

_PROBE = 4  # iterations that measure the pace; the first warms up
_LINE = 10  # seconds between two lines of progress
_REPORT, _SAVING = 10, 1  # seconds for the report; for metrics and checkpoint of an evaluation
Say = Callable[[str], None]


def add_arguments(parser: ArgumentParser) -> None:
    """The command line of ``centernet2 train``."""
    add = parser.add_argument
    add('data', help='folder or file of labelled images: COCO, YOLO or Pascal VOC')
    add('--out', help='folder of everything that is made (runs/NAME OF DATA)')
    add('--model', help='name of a config of this package; a small one on a CPU, R50 on a GPU')
    length = parser.add_mutually_exclusive_group()
    length.add_argument('--time', type=_seconds, help='time for training, such as 90s, 20m or 2h')
    length.add_argument('--epochs', type=float, help='passes over the training images')
    turns = 'aerial images, microscopy: no side is up, so training also turns images'
    add('--from-above', action='store_true', help=turns)
    add('--seed', type=int, default=0, help='of split, weights and augmentation')
    options = 'override settings of the config, as in tools/train.py'
    add('--cfg-options', nargs='+', action=DictAction, default={}, help=options)


def _seconds(text: str) -> float:
    match = re.fullmatch(r'(\d+(?:\.\d+)?)([smh]?)', text)
    if not match:
        raise ArgumentTypeError(f'{text!r} is no time such as 90s, 20m or 2h')
    return float(match[1]) * {'': 1, 's': 1, 'm': 60, 'h': 3600}[match[2]]


def train(args: Namespace) -> None:
    """Do all of it, or go on where a call was interrupted."""
    start = time.monotonic()
    say = partial(print, flush=True, file=sys.stdout)  # not what is redirected later
    out = Path(args.out or Path('runs') / Path(args.data).resolve().stem).resolve()
    config = out / 'config.py'
    if config.is_file():
        for name in ('model', 'time', 'epochs', 'from_above'):
            if getattr(args, name):
                raise PreflightError(
                    f'--{name.replace("_", "-")} was given, but {config} is there already and '
                    'decides. Edit it, or choose another folder with --out.'
                )
        say(f'{config} is there: going on with it, on the data that it names.')
    else:
        try:
            _settle(args, config, say, start)
        except BaseException:
            config.unlink(missing_ok=True)
            raise
    cfg = load(config, args)
    with lock_work_dir(cfg.work_dir):
        metrics = run(cfg, say)
    metrics['seconds'] = round(time.monotonic() - start, 1)
    (out / 'metrics.json').write_text(json.dumps(metrics, indent=2) + '\n')
    say(f"""
AP   {metrics['mAP']:.3f}   (COCO, IoU 0.50 to 0.95)
AP50 {metrics['mAP_50']:.3f}   on images that training never saw
{out}/: report.html (open it in a browser), checkpoint.pth, config.py, metrics.json
Next, detect in other images:
  centernet2 predict IMAGES {out}/config.py {out}/checkpoint.pth
Better: more labelled images, a longer --time, or edit {out}/config.py and run it with --out""")


def load(config: Path, args: Namespace) -> Config:
    """The written config, with the options of this call."""
    # mmengine writes the config into each checkpoint; formatting it takes a second
    cfg = Config.fromfile(config, format_python_code=False)
    cfg.work_dir = str(config.parent / 'training')  # mmengine writes its config.py there
    cfg.randomness = dict(seed=args.seed)
    cfg.merge_from_dict(args.cfg_options)
    return cfg


def _settle(args: Namespace, config: Path, say: Say, start: float) -> None:
    """Find the data, check them, choose a schedule and write the config."""
    data = find_data(args.data, config.parent, args.seed)
    config.parent.mkdir(parents=True, exist_ok=True)
    say(
        f'{args.data}: {data.kind}; {data.train.images} images with {data.train.boxes} boxes to '
        f'train on, {data.val.images} with {data.val.boxes} held out; {len(data.classes)} classes: '
        + ', '.join(data.classes[:10])
        + (', ...' if len(data.classes) > 10 else '')
    )
    for note in data.notes:
        say(f'  {note}')
    plan = make_plan(data, get_device() != 'cpu', args.model, args.epochs, args.from_above)
    write_config(config, data, plan, args.data)
    say('Checking labels and images ...')
    path = config.with_name('check.txt')
    with path.open('w') as file, redirect_stdout(StringIO()):  # of progress bars
        console = Console(file=file, soft_wrap=True, highlight=False)
        faults = check_config(load(config, args), config.with_name('labels.png'), console)
    if faults:
        lines = path.read_text().splitlines()
        say('\n'.join(line for line in lines if line.startswith('FAULT')))
        raise PreflightError(f'{args.data}: {faults} faults, listed above; mend them first.')
    if args.time:
        say(f'Measuring {_PROBE} iterations ...')
        pace = _measure(load(config, args))
        evaluation = pace / plan.batch / 3 * (plan.size / plan.crop) ** 2 * data.val.images
        left = args.time - (time.monotonic() - start) - _REPORT
        plan = fit_time(plan, left, pace, evaluation + _SAVING)
        write_config(config, data, plan, args.data)
    say(f'{config}: {plan.model}, {plan.iters} iterations of {plan.batch} images')


def _measure(cfg: Config) -> float:
    """Median seconds of an iteration."""
    cfg.train_cfg.max_iters = _PROBE
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint = None
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        cfg.work_dir = folder
        runner = build_runner(cfg)
        runner.train()
    return median(runner.message_hub.get_scalar('train/time').data[0][1:])


class Progress(Hook):
    """Says a line every ten seconds, and AP when it is measured; keeps the tested samples."""

    def __init__(self, say: Say) -> None:
        self.say, self._last = say, 0.0
        self.samples: list[DetDataSample] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        now, done, total = time.monotonic(), runner.iter + 1, runner.max_iters
        if done in (1, total) or now - self._last >= _LINE:
            self._last = now
            pace = runner.message_hub.get_scalar('train/time').mean(50)
            loss = runner.message_hub.get_scalar('train/loss').mean(20)
            left = time.strftime('%H:%M:%S', time.gmtime(pace * (total - done)))
            self.say(f'{done:6d}/{total}  loss {loss:.3f}  {pace:.2f} s/iteration  {left} to go')

    def after_val_epoch(self, runner, metrics=None) -> None:
        if metrics:
            ap, ap50 = metrics['coco/bbox_mAP'], metrics['coco/bbox_mAP_50']
            self.say(f'{runner.iter:6d}  held-out images: AP {ap:.3f}, AP50 {ap50:.3f}')

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.samples += [sample.cpu() for sample in outputs or ()]


def build_runner(cfg: Config) -> Runner:
    """A runner that says nothing on the terminal itself."""
    cfg.log_level = 'ERROR'
    cfg.visualizer.name = cfg.work_dir  # mmengine keeps one for each name
    with redirect_stdout(StringIO()):
        return Runner.from_cfg(cfg)


def run(cfg: Config, say: Say) -> dict[str, float]:
    """Train, or go on with it; test the best checkpoint; write a report above the ``work_dir``."""
    work_dir, out = Path(cfg.work_dir), Path(cfg.work_dir).parent
    if (work_dir / 'last_checkpoint').is_file():
        cfg.load_from, cfg.resume = find_latest_checkpoint(cfg.work_dir), True
        say(f'Resuming from {cfg.load_from}')
    progress, runner = Progress(say), build_runner(cfg)
    runner.register_hook(progress, 'VERY_LOW')
    parameters = sum(p.numel() for p in runner.model.parameters()) / 1e6
    gpu = get_device() == 'cuda'
    device = torch.cuda.get_device_name() if gpu else f'CPU, {torch.get_num_threads()} threads'
    say(f'Training {parameters:.1f} M parameters on {device}')
    with redirect_stdout(StringIO()):  # pycocotools' tables
        runner.train()
        history = runner.message_hub.log_scalars
        best = runner.message_hub.runtime_info.get('best_ckpt')
        if best is None:
            runner.save_checkpoint(str(out), 'checkpoint.pth', save_optimizer=False)
        else:
            shutil.copyfile(best, out / 'checkpoint.pth')
            runner.load_checkpoint(best)
        found = runner.test()
    metrics = {name.removeprefix('coco/bbox_'): round(float(v), 4) for name, v in found.items()}
    say('Writing the report ...')
    model = runner.model.eval()
    model.dataset_meta = runner.test_dataloader.dataset.metainfo
    explain = partial(write_page, model=model, cfg=cfg)
    write_report(out / 'report.html', cfg, progress.samples, history, explain)
    return metrics
