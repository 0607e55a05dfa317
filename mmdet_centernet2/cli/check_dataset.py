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

_SHOWN = 10  # entries listed of a fault; the rest are counted
_SAMPLES = 100  # images that go through the training pipeline
_EXIF_ORIENTATION = 0x0112
_READABLE = {'1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'I;16', 'I;16B', 'I;16L'}


class Labels(NamedTuple):
    """The labels of a split."""

    infos: list[dict]  # mmdet's, of all images
    meta: dict  # ``classes`` and more
    images: np.ndarray  # row in ``infos`` of each object, (N, )
    boxes: np.ndarray  # corners in pixels, (N, 4)
    classes: np.ndarray  # (N, )
    crowds: np.ndarray  # boolean, (N, )


class Report:
    """Prints what is found and counts the faults, which must be mended."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(soft_wrap=True, highlight=False)
        self.faults = 0

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False)

    def fault(self, what: object) -> None:
        """Print what must be mended."""
        self.faults += 1
        self.say(f'FAULT  {what}')

    def note(self, text: str) -> None:
        """Print what looks suspicious and may be right."""
        self.say(f'note   {text}')


def main() -> int:
    """Run on this process' command line; 1 if something must be mended."""
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('config', help='config file')
    add('--out', help='picture of the statistics (work_dirs/check_dataset/CONFIG.png)')
    add('--cfg-options', nargs='+', action=DictAction, help='override settings, as key=value')
    args = parser.parse_args()
    picture = args.out or f'work_dirs/check_dataset/{Path(args.config).stem}.png'
    return int(check_config(load_config(args), picture) > 0)


def check_config(cfg: Config, picture: str | Path, console: Console | None = None) -> int:
    """Check all data of a config, draw statistics of the labels, return the number of faults."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    MMLogger.get_instance('check', log_level='WARNING')
    report = Report(console)
    splits = [s for s in ('train', 'val', 'test') if cfg.get(f'{s}_dataloader') is not None]
    evaluators = {split: [f'{split}_evaluator'] * (split != 'train') for split in splits}
    check_data(cfg, [f'{split}_dataloader' for split in splits], sum(evaluators.values(), []))
    for split in splits:  # what cannot be built is said there
        names = dict.fromkeys(['train_dataloader', f'{split}_dataloader'])
        try:
            check_datasets(cfg, list(names), evaluators[split])
        except PreflightError as error:
            report.fault(error)
    found: dict[str, Labels] = {}
    done: list[dict] = []
    for split in splits:
        config = cfg[f'{split}_dataloader']['dataset']
        if config not in done:
            done.append(config)
            labels = _check_split(cfg, split, report)
            found |= {} if labels is None else {split: labels}
    _check_overlap(found, report)
    if found:
        _draw(found, Path(picture))
        report.say(f'\nStatistics of the labels: {picture}')
    report.say(f'{report.faults} faults.' if report.faults else 'No faults.')
    return report.faults


def _check_split(cfg: Config, split: str, report: Report) -> Labels | None:
    """Check one data loader's data; None if they cannot be read."""
    report.say(f'\n{split}_dataloader')
    try:
        with redirect_stdout(StringIO()):
            dataset = DATASETS.build(copy.deepcopy(cfg[f'{split}_dataloader']['dataset']))
            if hasattr(dataset, 'full_init'):
                dataset.full_init()
    except (AnnotationError, ValueError) as error:
        report.fault(error)
        return None
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    rows = [
        (row, *i['bbox'], i['bbox_label'], i['ignore_flag'])
        for row, info in enumerate(infos)
        for i in info['instances']
    ]
    table = np.array(rows, float).reshape(-1, 7)
    row, label, crowd = table[:, [0, 5, 6]].astype(int).T
    labels = Labels(infos, dataset.metainfo, row, table[:, 1:5], label, crowd > 0)
    _describe(labels, report)
    _find_suspicious(labels, cfg, report)
    _check_images(infos, report)
    if split == 'train':
        _count_levels(dataset, cfg, report)
    else:
        _score_perfect(labels, cfg[f'{split}_evaluator'], report)
    return labels


def _describe(labels: Labels, report: Report) -> None:
    infos, names, crowds = labels.infos, labels.meta['classes'], labels.crowds
    report.say(
        f'{len(infos)} images ({len(infos) - len(set(labels.images))} without objects), '
        f'{(~crowds).sum()} objects, {crowds.sum()} crowds, {len(names)} classes'
    )
    sides = np.array([(info['width'], info['height']) for info in infos])
    extents = labels.boxes[:, 2:] - labels.boxes[:, :2]
    for what, sizes in (('images', sides), ('objects', extents)):
        if len(sizes):
            low, middle, high = np.percentile(np.sqrt(sizes.prod(1)), (0, 50, 100))
            report.say(
                f'{what}: smallest {low:.0f}, median {middle:.0f}, largest {high:.0f} px '
                '(root of the area)'
            )
    counts = np.bincount(labels.classes, minlength=len(names))
    images = Counter(label for label, _ in set(zip(labels.classes.tolist(), labels.images)))
    order = np.argsort(-counts, kind='stable').tolist()
    table = Table('class', 'objects', 'images')
    for label in order[:20]:
        table.add_row(names[label], str(counts[label]), str(images[label]))
    report.console.print(table)
    if len(order) > 20:
        report.say(f'and {len(order) - 20} classes with fewer')
    none = [names[label] for label in order if not counts[label]]
    if none:
        report.note(f'{len(none)} classes have no object: {none[:_SHOWN]}')


def _find_suspicious(labels: Labels, cfg: Config, report: Report) -> None:
    """What may be right, but is worth a look."""
    paths = [info['img_path'] for info in labels.infos]
    keys = zip(labels.images.tolist(), labels.classes.tolist(), map(tuple, labels.boxes.tolist()))
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        report.note(
            f'{len(twice)} boxes stand more than once in an image with the same class, such as '
            f'{list(twice[0][2])} in {paths[twice[0][0]]}'
        )
    test_cfg = cfg.model.get('test_cfg') or {}
    limit = (test_cfg.get('rcnn') or test_cfg).get('max_per_img')
    counts = np.bincount(labels.images, minlength=1)
    if limit and counts.max() > limit:
        report.note(
            f'{paths[counts.argmax()]} has {counts.max()} objects, the config detects at most '
            f'max_per_img={limit} in an image'
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
    if mode not in _READABLE and not (mode == 'I' and kind in ('PNG', 'PPM')):
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
def _count_levels(dataset: BaseDataset, cfg: Config, report: Report) -> None:
    """Count the objects of each level after the training pipeline."""
    head = cfg.model.get('rpn_head') or cfg.model.get('bbox_head') or {}
    ranges = head.get('regress_ranges')
    if not ranges:
        return
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    indices = random.sample(range(len(dataset)), min(_SAMPLES, len(dataset)))
    halves, shapes = [], []
    try:
        for index in track(indices, 'levels', transient=True):
            sample = dataset[index]['data_samples']
            boxes = torch.as_tensor(sample.gt_instances.bboxes.tensor)
            halves.append((boxes[:, 2:] - boxes[:, :2]).norm(dim=1) / 2)
            shapes.append(sample.img_shape)
    except (AnnotationError, ImageReadError) as error:
        report.fault(error)
        return
    half = torch.cat(halves).numpy()
    height, width = np.mean(shapes, axis=0)
    report.say(
        f'{len(half)} objects of {len(indices)} images after the training pipeline, on average '
        f'{width:.0f}x{height:.0f} px; an object may train two levels:'
    )
    low, high = np.array(ranges, float).T[..., None]
    on_level = (half >= low) & (half <= high)  # (levels, objects)
    strides = [str(s) for s in head.get('strides', range(len(ranges)))]
    table = Table('level (stride)', 'half diagonal, px', 'objects')
    for stride, (low, high), count in zip(strides, ranges, on_level.sum(1)):
        table.add_row(stride, f'{low:g} to {high:g}', str(count))
    report.console.print(table)
    unused = [stride for stride, used in zip(strides, on_level.any(1)) if not used]
    if unused:
        report.note(f'no object trains the levels of stride {", ".join(unused)}')
    none = ~on_level.any(0)
    if none.any():
        report.fault(
            f'{none.sum()} of {len(half)} objects fall on no level, such as one with a half '
            f'diagonal of {half[none][0]:.1f} px: regress_ranges of the first stage must cover them'
        )


# -----evaluation-----
def _score_perfect(labels: Labels, evaluators: dict | list, report: Report) -> None:
    """Evaluate the annotations themselves: AP must be 1."""
    for config in [evaluators] if isinstance(evaluators, dict) else evaluators:
        if config.get('format_only'):
            report.note('the evaluator only writes results (format_only)')
            continue
        try:
            with redirect_stdout(StringIO()):
                figures = _evaluate(labels, copy.deepcopy(config))
        except (AnnotationError, ValueError) as error:
            report.fault(error)
            continue
        scores = {key: value for key, value in figures.items() if key.endswith(('_mAP', '_AP'))}
        said = ', '.join(f'{key} {value:.3f}' for key, value in scores.items())
        if scores and all(value > 1 - 1e-6 for value in scores.values()):
            report.say(f'{config["type"]} of perfect detections: {said}')
            continue
        why = 'Does the evaluator read the annotations of the loader?'
        for (row, _), count in Counter(zip(labels.images, labels.classes)).most_common(1):
            if count > 100:
                why = (
                    f'{labels.infos[row]["img_path"]} has {count} objects of a class, of which '
                    'COCO evaluation looks at 100: cut such images into tiles'
                )
        report.fault(f'{config["type"]} gives perfect detections {said}; it must be 1.0. {why}')


def _evaluate(labels: Labels, config: dict) -> dict[str, float]:
    """Figures of the annotations, as if they had been detected."""
    metric = METRICS.build(config)
    metric.dataset_meta = labels.meta
    for info in track(labels.infos, 'perfect detections', transient=True):
        seen = [i for i in info['instances'] if not i['ignore_flag']]
        size = (info['height'], info['width'])
        found = dict(
            bboxes=torch.tensor([i['bbox'] for i in seen]).reshape(-1, 4),
            labels=torch.tensor([i['bbox_label'] for i in seen]).long(),
            scores=torch.ones(len(seen)),
        )
        if 'segm' in getattr(metric, 'metrics', ()):
            found['masks'] = [run_lengths(i['mask'], size) for i in seen]
        sample = dict(img_id=info['img_id'], ori_shape=size, instances=info['instances'])
        metric.process({}, [dict(sample, pred_instances=found)])
    return metric.evaluate(len(labels.infos))


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
    first = next(iter(found.values()))
    names = first.meta['classes']
    order = np.argsort(-np.bincount(first.classes, minlength=len(names)))[:30]
    for place, (split, labels) in enumerate(found.items()):
        counts = np.bincount(labels.classes, minlength=len(names))[order]
        bars.barh(np.arange(len(order)) + 0.4 * place, counts, 0.4, label=split)
        per_image = np.bincount(labels.images, minlength=len(labels.infos))
        numbers.hist(per_image, bins=30, alpha=0.6, label=split)
        extents = labels.boxes[:, 2:] - labels.boxes[:, :2]
        sizes.scatter(*extents.T, s=4, alpha=0.3, label=split)
    scale = np.array([(info['width'], info['height']) for info in first.infos])[first.images]
    middle = (first.boxes[:, :2] + first.boxes[:, 2:]) / 2 / scale
    centres.hist2d(*middle.T, bins=40, range=[(0, 1), (0, 1)], cmap='viridis')
    bars.set_yticks(np.arange(len(order)), [names[c] for c in order])
    bars.invert_yaxis()
    bars.set_title('objects of each class' + (', the 30 largest' if len(order) == 30 else ''))
    sizes.set(xscale='log', yscale='log', xlabel='width, px', ylabel='height, px')
    sizes.set_title('size of the boxes')
    centres.set(xlabel='x / width', ylabel='y / height')
    centres.set_title(f'centres of the boxes, {next(iter(found))}')
    centres.invert_yaxis()
    numbers.set(xlabel='objects in an image', ylabel='images', title='objects of each image')
    for axes in (bars, sizes, numbers):
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
