"""Check the data of a config before training: labels, images, evaluation."""

from __future__ import annotations

import copy
import os.path as osp
import random
from argparse import ArgumentParser
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmdet.registry import DATASETS, METRICS
from mmengine.config import Config, DictAction
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mmdet_centernet2.cli.checks import PreflightError, check_data, check_datasets, load_config
from mmdet_centernet2.datasets import AnnotationError
from mmdet_centernet2.datasets.transforms import ImageReadError
from mmdet_centernet2.evaluation.coco_metric import run_lengths

SPLITS = ('train', 'val', 'test')
_SHOWN = 10  # entries listed of a fault; the rest are counted
_EXIF_ORIENTATION = 0x0112
_READABLE = {'1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'I;16', 'I;16B', 'I;16L'}


class Labels(NamedTuple):
    """mmdet's data infos of all images of a split, and its classes."""

    infos: list[dict]
    classes: tuple[str, ...]


class Report:
    """Prints what is found and counts the faults, which must be mended."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(soft_wrap=True, highlight=False)
        self.faults = 0

    def say(self, text: str = '') -> None:
        """Print a line."""
        self.console.print(text, markup=False)

    def fault(self, text: str) -> None:
        """Print what must be mended."""
        self.faults += 1
        self.say(f'FAULT  {text}')

    def note(self, text: str) -> None:
        """Print what looks suspicious and may be right."""
        self.say(f'note   {text}')


def main() -> int:
    """Run on this process' command line; 1 if something must be mended.

    Raises:
        PreflightError: If the config or its data are not there.
    """
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--out', help='picture of the statistics; work_dirs/check_dataset/CONFIG.png unless given'
    )
    parser.add_argument(
        '--samples',
        type=int,
        default=100,
        help='images that go through the training pipeline, to see which '
        'levels their objects fall on (default: %(default)s)',
    )
    parser.add_argument('--no-images', action='store_true', help='look at the annotations only')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config, as in tools/train.py',
    )
    args = parser.parse_args()
    picture = args.out or f'work_dirs/check_dataset/{Path(args.config).stem}.png'
    return int(check_config(load_config(args), picture, args.samples, not args.no_images) > 0)


def check_config(
    cfg: Config,
    picture: str | Path,
    samples: int = 100,
    images: bool = True,
    console: Console | None = None,
) -> int:
    """Check all data of a config.

    Args:
        cfg: The config.
        picture: File for the statistics of the labels.
        samples: Images that go through the training pipeline.
        images: Whether every image is looked at.
        console: What to print on.

    Returns:
        Number of faults, which must be mended.

    Raises:
        PreflightError: If the data are not there.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    MMLogger.get_instance('check', log_level='WARNING')
    report = Report(console)
    splits = [s for s in SPLITS if cfg.get(f'{s}_dataloader') is not None]
    loaders = {split: f'{split}_dataloader' for split in splits}
    evaluators = {split: [f'{split}_evaluator'] * (split != 'train') for split in splits}
    check_data(cfg, list(loaders.values()), sum(evaluators.values(), []))
    for split in splits:  # what cannot be built is said there
        names = list(dict.fromkeys(['train_dataloader', loaders[split]]))
        try:
            check_datasets(cfg, names, evaluators[split])
        except PreflightError as error:
            report.fault(str(error))
    found: dict[str, Labels] = {}
    done: list[dict] = []
    for split, loader in loaders.items():
        config = cfg[loader]['dataset']
        if config in done:
            continue
        done.append(config)
        labels = _check_split(cfg, split, report, samples, images)
        if labels is not None:
            found[split] = labels
    _check_overlap(found, report)
    if found:
        _draw(found, Path(picture))
        report.say(f'\nStatistics of the labels: {picture}')
    report.say(f'{report.faults} faults.' if report.faults else 'No faults.')
    return report.faults


def _check_split(
    cfg: Config, split: str, report: Report, samples: int, images: bool
) -> Labels | None:
    """Check one data loader's data; None if they cannot be read."""
    report.say(f'\n{split}_dataloader')
    try:
        with redirect_stdout(StringIO()):
            dataset = DATASETS.build(copy.deepcopy(cfg[f'{split}_dataloader']['dataset']))
            if hasattr(dataset, 'full_init'):
                dataset.full_init()
    except (AnnotationError, ValueError) as error:
        report.fault(str(error))
        return None
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    labels = Labels(infos, dataset.metainfo['classes'])
    _describe(labels, report)
    _find_suspicious(infos, cfg, report)
    if images:
        _check_images(infos, report)
        if split == 'train':
            _count_levels(dataset, cfg, samples, report)
    if split != 'train':
        _score_perfect(dataset.metainfo, infos, cfg[f'{split}_evaluator'], report)
    return labels


def _describe(labels: Labels, report: Report) -> None:
    """Print what a data set holds."""
    infos, classes = labels
    objects = [i for info in infos for i in info['instances']]
    crowds = sum(i['ignore_flag'] for i in objects)
    empty = sum(not info['instances'] for info in infos)
    report.say(
        f'{len(infos)} images ({empty} without objects), {len(objects) - crowds} objects, '
        f'{crowds} crowds, {len(classes)} classes'
    )
    sides = np.array([(info['width'], info['height']) for info in infos])
    report.say('images: ' + _spread(np.sqrt(sides.prod(1)), 'px (root of the area)'))
    if objects:
        extents = _extents(objects)
        report.say('objects: ' + _spread(np.sqrt(extents.prod(1)), 'px (root of the area)'))
    counts = Counter(i['bbox_label'] for i in objects)
    images = Counter(
        label for info in infos for label in {i['bbox_label'] for i in info['instances']}
    )
    table = Table('class', 'objects', 'images')
    order = sorted(range(len(classes)), key=lambda c: -counts[c])
    for label in order[:20]:
        table.add_row(classes[label], str(counts[label]), str(images[label]))
    report.console.print(table)
    if len(order) > 20:
        report.say(f'and {len(order) - 20} classes with fewer')
    none = [classes[label] for label in order if not counts[label]]
    if none:
        report.note(f'{len(none)} classes have no object: {none[:_SHOWN]}')


def _spread(values: np.ndarray, unit: str) -> str:
    low, middle, high = np.percentile(values, (0, 50, 100))
    return f'smallest {low:.0f}, median {middle:.0f}, largest {high:.0f} {unit}'


def _extents(objects: list[dict]) -> np.ndarray:
    """Widths and heights (N, 2) in pixels."""
    boxes = np.array([i['bbox'] for i in objects], float)
    return boxes[:, 2:] - boxes[:, :2]


def _find_suspicious(infos: list[dict], cfg: Config, report: Report) -> None:
    """What may be right, but is worth a look."""
    same = Counter(
        (info['img_path'], i['bbox_label'], *i['bbox']) for info in infos for i in info['instances']
    )
    twice = [key for key, count in same.items() if count > 1]
    if twice:
        report.note(
            f'{len(twice)} boxes stand more than once in an image with the same class, such as '
            f'{list(twice[0][2:])} in {twice[0][0]}'
        )
    files = Counter(info['img_path'] for info in infos)
    again = [path for path, count in files.items() if count > 1]
    if again:
        report.note(f'{len(again)} images are listed more than once, such as {again[0]}')
    most = max(infos, key=lambda info: len(info['instances']))
    test_cfg = cfg.model.get('test_cfg') or {}
    limit = (test_cfg.get('rcnn') or test_cfg).get('max_per_img')
    if limit and len(most['instances']) > limit:
        report.note(
            f'{most["img_path"]} has {len(most["instances"])} objects, the '
            f'config detects at most max_per_img={limit} in an image'
        )


# -----images-----
def _check_images(infos: list[dict], report: Report) -> None:
    """Read the header of every image."""
    with ThreadPoolExecutor(8) as pool:
        found = list(track(pool.map(_look_at, infos), 'images', total=len(infos), transient=True))
    faults = [text for text, _ in found if text]
    if faults:
        more = f'; and {len(faults) - _SHOWN} more' if len(faults) > _SHOWN else ''
        report.fault(
            f'{len(faults)} images cannot be trained on: {"; ".join(faults[:_SHOWN])}{more}'
        )
    mirrored = [info['img_path'] for info, (_, turn) in zip(infos, found) if turn]
    if mirrored:
        report.note(
            f'{len(mirrored)} images are mirrored or upside down by their EXIF orientation, such '
            f'as {mirrored[0]}: were they labelled upright?'
        )


def _look_at(info: dict) -> tuple[str, bool]:
    """What is wrong with an image, and whether EXIF turns it unseen."""
    path = info['img_path']
    if '://' in path:
        return '', False
    try:
        with Image.open(path) as image:
            turn = image.getexif().get(_EXIF_ORIENTATION, 1)
            size, mode, kind = image.size, image.mode, image.format
    except Exception as error:  # each decoder fails in its own way
        return f'{path}: {error}', False
    if mode not in _READABLE and not (mode == 'I' and kind == 'PNG'):
        return f'{path}: pixels of mode {mode} (32 bit) are not read', False
    if turn in (5, 6, 7, 8):
        size = size[::-1]
    if size != (info['width'], info['height']):
        hint = f' with EXIF orientation {turn}' if turn != 1 else ''
        return (
            f'{path} is {size[0]}x{size[1]}{hint}, its annotation says '
            f'{info["width"]}x{info["height"]}'
        ), False
    return '', turn in (2, 3, 4)


# -----levels-----
def _count_levels(dataset: BaseDataset, cfg: Config, samples: int, report: Report) -> None:
    """Count the objects of each level after the training pipeline."""
    head = cfg.model.get('rpn_head') or cfg.model.get('bbox_head') or {}
    ranges = head.get('regress_ranges')
    if not ranges or not samples:
        return
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    indices = random.sample(range(len(dataset)), min(samples, len(dataset)))
    halves, shapes = [], []
    try:
        for index in track(indices, 'levels', transient=True):
            sample = dataset[index]['data_samples']
            boxes = torch.as_tensor(sample.gt_instances.bboxes.tensor)
            halves.append((boxes[:, 2:] - boxes[:, :2]).norm(dim=1) / 2)
            shapes.append(sample.img_shape)
    except (AnnotationError, ImageReadError) as error:
        report.fault(str(error))
        return
    half = torch.cat(halves).numpy()
    height, width = np.mean(shapes, axis=0)
    report.say(
        f'{len(half)} objects of {len(indices)} images after the '
        f'training pipeline, on average {width:.0f}x{height:.0f} px; '
        'an object may train two levels:'
    )
    table = Table('level (stride)', 'half diagonal, px', 'objects')
    none, unused = np.ones(len(half), bool), []
    for stride, (low, high) in zip(head.get('strides', ranges), ranges):
        on_level = (half >= low) & (half <= high)
        none &= ~on_level
        stride = '' if isinstance(stride, (tuple, list)) else str(stride)
        table.add_row(stride, f'{low:g} to {high:g}', str(on_level.sum()))
        unused += [stride] * (not on_level.any())
    report.console.print(table)
    if unused:
        report.note(f'no object trains the levels of stride {", ".join(unused)}')
    if none.any():
        report.fault(
            f'{none.sum()} of {len(half)} objects fall on no level, such as '
            f'one with a half diagonal of {half[none][0]:.1f} px: regress_'
            'ranges of the first stage must cover them'
        )


# -----evaluation-----
def _score_perfect(meta: dict, infos: list[dict], evaluators: dict | list, report: Report) -> None:
    """Evaluate the annotations themselves: AP must be 1."""
    for config in [evaluators] if isinstance(evaluators, dict) else evaluators:
        if config.get('format_only'):
            report.note('the evaluator only writes results (format_only)')
            continue
        try:
            with redirect_stdout(StringIO()):
                figures = _evaluate(meta, infos, copy.deepcopy(config))
        except (AnnotationError, ValueError) as error:
            report.fault(str(error))
            continue
        scores = {key: value for key, value in figures.items() if key.endswith(('_mAP', '_AP'))}
        said = ', '.join(f'{key} {value:.3f}' for key, value in scores.items())
        if scores and all(value > 1 - 1e-6 for value in scores.values()):
            report.say(f'{config["type"]} of perfect detections: {said}')
        else:
            report.fault(
                f'{config["type"]} gives perfect detections {said}; it must be 1.0. '
                f'{_why_not_one(infos)}'
            )


def _evaluate(meta: dict, infos: list[dict], config: dict) -> dict[str, float]:
    metric = METRICS.build(config)
    metric.dataset_meta = meta
    masks = 'segm' in getattr(metric, 'metrics', ())
    for info in track(infos, 'perfect detections', transient=True):
        metric.process({}, [_perfect_sample(info, masks)])
    return metric.evaluate(len(infos))


def _perfect_sample(info: dict, masks: bool) -> dict:
    """An image's annotations as detections, as a metric takes them."""
    seen = [i for i in info['instances'] if not i['ignore_flag']]
    size = (info['height'], info['width'])
    boxes = np.array([i['bbox'] for i in seen], np.float32).reshape(-1, 4)
    found = dict(
        bboxes=torch.from_numpy(boxes),
        labels=torch.tensor([i['bbox_label'] for i in seen]).long(),
        scores=torch.ones(len(seen)),
    )
    if masks:
        found['masks'] = [run_lengths(i['mask'], size) for i in seen]
    return dict(
        img_id=info['img_id'], ori_shape=size, instances=info['instances'], pred_instances=found
    )


def _why_not_one(infos: list[dict]) -> str:
    crowded, count = None, 0
    for info in infos:
        labels = Counter(i['bbox_label'] for i in info['instances'])
        if labels and max(labels.values()) > count:
            crowded, count = info['img_path'], max(labels.values())
    if count > 100:
        return (
            f'{crowded} has {count} objects of a class, of which COCO '
            'evaluation looks at 100: cut such images into tiles'
        )
    return 'Does the evaluator read the annotations of the loader?'


def _check_overlap(found: dict[str, Labels], report: Report) -> None:
    """Images that are trained on and tested with."""
    paths = {
        split: {osp.realpath(info['img_path']) for info in labels.infos}
        for split, labels in found.items()
    }
    for split in ('val', 'test'):
        shared = paths.get('train', set()) & paths.get(split, set())
        if shared:
            report.note(
                f'{len(shared)} images of {split}_dataloader are trained on as well, such as '
                f'{min(shared)}: its figures say nothing about new images'
            )


# -----picture-----
def _draw(found: dict[str, Labels], path: Path) -> None:
    """Draw the statistics of the labels of each split."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout='constrained')
    bars, sizes, centres, numbers = figure.subplots(2, 2).flat
    order = None
    for place, (split, (infos, classes)) in enumerate(found.items()):
        objects = [i for info in infos for i in info['instances']]
        counts = np.bincount([i['bbox_label'] for i in objects], minlength=len(classes))
        if order is None:
            order = np.argsort(-counts)[:30]
        bars.barh(np.arange(len(order)) + 0.4 * place, counts[order], 0.4, label=split)
        bars.set_yticks(np.arange(len(order)), [classes[c] for c in order])
        numbers.hist([len(info['instances']) for info in infos], bins=30, alpha=0.6, label=split)
        if not objects:
            continue
        sizes.scatter(*_extents(objects).T, s=4, alpha=0.3, label=split)
        if not place:
            scale = [(i['width'], i['height']) for i in infos for _ in i['instances']]
            boxes = np.array([i['bbox'] for i in objects], float)
            middle = (boxes[:, :2] + boxes[:, 2:]) / 2 / np.array(scale)
            centres.hist2d(*middle.T, bins=40, range=[(0, 1), (0, 1)], cmap='viridis')
            centres.set_title(f'centres of the boxes, {split}')
    bars.invert_yaxis()
    bars.set_title('objects of each class' + (', the 30 largest' if len(order) == 30 else ''))
    sizes.set(xscale='log', yscale='log', xlabel='width, px', ylabel='height, px')
    sizes.set_title('size of the boxes')
    centres.set(xlabel='x / width', ylabel='y / height')
    centres.invert_yaxis()
    numbers.set(xlabel='objects in an image', ylabel='images', title='objects of each image')
    for axes in (bars, sizes, numbers):
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
