"""The main job, end to end: data, weights, training, metrics, pictures."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdet_centernet2.checkpoint.mobilenet_v2 import prepare_mobilenet_v2

from .progress import KeepPredictions, ProgressHook, clock
from .report import Prediction, save_loss_curve, save_picture
from .tree_tiles import prepare_tree_tiles

CHECKPOINT = 'checkpoint.pth'
PICTURE_SCORE = 0.3
Say = Callable[[str], None]


@dataclass
class Options:
    """What the user may choose.

    Attributes:
        config: Config file to train.
        work_dir: Everything the job makes goes here.
        data_root: Where the tree tiles are, or are to be made.
        seed: Of weights and augmentation.
        max_iters: Iterations; None for the config's.
        quick: Two iterations and two tiles, to see that everything works.
    """

    config: Path
    work_dir: Path = Path('work_dirs/quickstart')
    data_root: Path = Path('data/tree_tiles')
    seed: int = 0
    max_iters: int | None = None
    quick: bool = False


def run(options: Options, say: Say = print) -> None:
    """Do the whole job.

    ``work_dir`` then holds ``checkpoint.pth``, ``config.py``,
    ``metrics.json``, ``losses.json``, ``loss_curve.png`` and
    ``pictures/*.png``. The model runs on the GPU where torch sees one.

    Args:
        options: What to do.
        say: Called with each line meant for the user.

    Raises:
        PinnedFileError: Photos or weights could not be had.
        CheckpointError: The ImageNet weights do not fit the backbone.
    """
    start = time.monotonic()
    for line in prepare_tree_tiles(options.data_root, say=say).lines():
        say(line)
    config = load_config(options, prepare_mobilenet_v2(say=say))
    progress, predictions = ProgressHook(say), KeepPredictions()
    runner = build_runner(config, [progress, predictions])
    parameters = sum(p.numel() for p in runner.model.parameters())
    say(
        f'Training {Path(options.config).stem} ({parameters / 1e6:.1f} M '
        f'parameters, seed {options.seed}) for {runner.max_iters} iterations '
        f'on {device_name()}'
    )
    prepared = time.monotonic() - start
    runner.train()
    say('Evaluating on the held-out tiles ...')
    metrics: dict[str, object] = evaluate(runner)
    say('Drawing ...')
    draw(options, runner, predictions.samples)
    metrics.update(
        seed=options.seed,
        iterations=runner.max_iters,
        device=device_name(),
        torch=torch.__version__,
        seconds_preparing=round(prepared, 1),
        seconds_training=round(progress.seconds, 1),
        seconds_total=round(time.monotonic() - start, 1),
    )
    write_json(metrics, options.work_dir / 'metrics.json')
    say(closing_words(options, metrics))


def load_config(options: Options, weights: Path) -> Config:
    """The config with this run's folders, weights, seed and length."""
    config = Config.fromfile(options.config)
    config.work_dir = str(options.work_dir)
    config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(weights))
    config.randomness = dict(seed=options.seed)
    config.log_level = 'ERROR'  # ProgressHook speaks instead
    root = Path(options.data_root)
    config.data_root = f'{root}/'
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        config[name].dataset.data_root = f'{root}/'
    for name in ('val_evaluator', 'test_evaluator'):
        config[name].ann_file = str(root / 'annotations' / 'val.json')
    if options.quick or options.max_iters:
        set_iterations(config, 2 if options.quick else options.max_iters)
    if options.quick:
        config.train_dataloader.batch_size = 1
        for name in ('val_dataloader', 'test_dataloader'):
            config[name].dataset.indices = 2
    config.default_hooks.checkpoint = dict(
        type='CheckpointHook',
        by_epoch=False,
        interval=config.train_cfg.max_iters,
        filename_tmpl=CHECKPOINT,
        save_optimizer=False,
        save_param_scheduler=False,
    )
    return config


def set_iterations(config: Config, iterations: int) -> None:
    """Stretch or shrink the whole schedule to ``iterations``."""
    factor = iterations / config.train_cfg.max_iters
    config.train_cfg.max_iters = iterations
    for scheduler in config.param_scheduler:
        if scheduler.begin:
            scheduler.begin = max(round(scheduler.begin * factor), 1)
        scheduler.end = max(round(scheduler.end * factor), scheduler.begin + 1)
        if 'T_max' in scheduler:
            scheduler.T_max = scheduler.end - scheduler.begin


def build_runner(config: Config, hooks: Sequence[Hook]) -> Runner:
    """A runner with the hooks; its config is saved as ``config.py``.

    It does not validate: the same images are tested afterwards.
    """
    register_all_modules(init_default_scope=False)
    Path(config.work_dir).mkdir(parents=True, exist_ok=True)
    config.dump(Path(config.work_dir) / 'config.py')
    config = copy.deepcopy(config)
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools' chatter
        runner = Runner.from_cfg(config)
    for hook in hooks:
        runner.register_hook(hook, 'VERY_LOW')
    return runner


def evaluate(runner: Runner) -> dict[str, float]:
    """COCO metrics on the held-out tiles, without the prefix ``coco/``."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools' table
        found = runner.test()
    return {
        name.replace('coco/bbox_', ''): float(value)
        for name, value in found.items()
        if name.startswith('coco/')
    }


def draw(options: Options, runner: Runner, samples: Sequence[DetDataSample]) -> None:
    """Write the losses, their curve and one picture for each test image."""
    history = {
        name.removeprefix('train/'): scalar.data[0].tolist()
        for name, scalar in runner.message_hub.log_scalars.items()
        if name.startswith('train/') and 'loss' in name
    }
    write_json(history, options.work_dir / 'losses.json')
    save_loss_curve(history, options.work_dir / 'loss_curve.png')
    truth = read_truth(options.data_root / 'annotations' / 'val.json')
    folder = options.work_dir / 'pictures'
    folder.mkdir(parents=True, exist_ok=True)
    for sample in samples:
        path = Path(sample.img_path)
        prediction = Prediction(
            name=path.name,
            image=cv2.imread(str(path))[..., ::-1],
            truth=np.array(truth.get(sample.img_id, []), dtype=float).reshape(-1, 4),
            boxes=sample.pred_instances.bboxes.numpy(),
            scores=sample.pred_instances.scores.numpy(),
        )
        save_picture(prediction, folder / f'{path.stem}.png', PICTURE_SCORE)


def read_truth(ann_file: Path) -> dict[int, list[list[float]]]:
    """x1 y1 x2 y2 boxes in pixels of each image id of a COCO file."""
    boxes: dict[int, list[list[float]]] = {}
    for item in json.loads(ann_file.read_text())['annotations']:
        x, y, width, height = item['bbox']
        boxes.setdefault(item['image_id'], []).append([x, y, x + width, y + height])
    return boxes


def write_json(content: object, path: Path) -> None:
    """Write a JSON file for people to read."""
    path.write_text(json.dumps(content, indent=2) + '\n')


def device_name() -> str:
    """What the model runs on, for people."""
    if get_device() == 'cuda':
        return torch.cuda.get_device_name()
    return f'CPU, {torch.get_num_threads()} threads'


def closing_words(options: Options, metrics: dict[str, object]) -> str:
    """The result, where everything is, and what to try next."""
    folder = options.work_dir
    # as a user may type it here: .venv is seldom active
    python, here = Path(sys.executable), Path.cwd()
    if python.is_relative_to(here):
        python = python.relative_to(here)
    return f"""
AP   {metrics['mAP']:.3f}   (COCO, IoU 0.50 to 0.95)
AP50 {metrics['mAP_50']:.3f}   on photographs that training never saw
Everything is in {folder}/ : {CHECKPOINT}, metrics.json, loss_curve.png, \
pictures/
The job took {clock(metrics['seconds_total'])} min
Next, find trees in other photographs:
  {python} tools/image_demo.py {options.data_root}/val {folder}/config.py \
--weights {folder}/{CHECKPOINT} --out-dir {folder}/demo"""
