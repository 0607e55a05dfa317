"""Make labels for unlabelled images with any detector of mmdet."""
from __future__ import annotations

import argparse
import os
import os.path as osp
from typing import Sequence

from mmdet.apis import init_detector
from mmdet.registry import DATASETS
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from torch import nn

import mmdet_centernet2  # noqa: F401  registers the models
from mmdet_centernet2.datasets.pseudo_labels import (PseudoLabelError,
                                                     UnlabelledImages,
                                                     category_block,
                                                     check_target,
                                                     make_pseudo_labels,
                                                     read_coco)
from mmdet_centernet2.datasets.transforms.loading import ImageReadError
from mmdet_centernet2.utils.mmdet_tools import errors_as_exit
from mmdet_centernet2.utils.preflight import (PreflightError, check_devices,
                                              load_config)
from mmdet_centernet2.utils.weights_check import (load_checkpoint,
                                                  require_full_match)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file of the detector')
    parser.add_argument('checkpoint', help='checkpoint file of the detector')
    parser.add_argument(
        'images',
        help='folder of images, or a COCO file that lists them, such as '
        'image_info_unlabeled2017.json')
    parser.add_argument('out', help='COCO file to write, with a score for '
                        'each annotation')
    parser.add_argument('--img-dir', help='where the images are that a COCO '
                        'file lists')
    parser.add_argument('--categories', help='COCO file to take the category '
                        'ids from, such as that of the labelled images '
                        '(default: the one that lists the images, if it '
                        "names all of the model's classes; else 1, 2, ...)")
    parser.add_argument('--score-thr', type=float, default=0.5,
                        help='smallest score of a label (default: '
                        '%(default)s)')
    parser.add_argument('--device', help='such as cuda:0 or cpu; the GPU if '
                        'there is one unless given')
    parser.add_argument('--batch-size', type=int, default=1,
                        help='images detected on at once (default: '
                        '%(default)s)')
    parser.add_argument('--workers', type=int, default=2,
                        help='processes that load images (default: '
                        '%(default)s)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction,
                        help='config keys to change, as key=value')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        summary = run(args)
    except PseudoLabelError as error:
        raise PreflightError(f'{error}.') from error
    except ImageReadError as error:
        # from a loading process it comes with a trace in front
        words = str(error).strip().splitlines()[-1].split('Error: ')[-1]
        raise PreflightError(f'{words} {_go_on(args.out)}') from error
    except KeyboardInterrupt:
        print(f'\ninterrupted. {_go_on(args.out)}')
        raise SystemExit(130) from None
    print(f'{args.out}: {summary}')


def run(args: argparse.Namespace):
    """Make the labels.

    Args:
        args (Namespace): From :func:`parse_args`.

    Returns:
        Summary: What was written.
    """
    check_target(args.out)
    cfg = load_config(args)
    check_devices(args)
    unlabelled = find_images(args.images, args.img_dir)
    require_full_match(cfg, args.checkpoint)
    model = init_detector(
        cfg, args.checkpoint, device=args.device or get_device())
    return make_pseudo_labels(
        model,
        get_test_pipeline_cfg(cfg),
        unlabelled,
        find_categories(
            class_names(model, cfg, args.checkpoint), unlabelled,
            args.categories),
        args.out,
        score_thr=args.score_thr,
        batch_size=args.batch_size,
        num_workers=args.workers,
        settings=describe(args))


def find_images(images: str, img_dir: str | None) -> UnlabelledImages:
    """The images that the user named."""
    if not images.endswith('.json'):
        return UnlabelledImages.from_folder(images)
    if img_dir is None:
        raise PseudoLabelError(
            f'{images} lists file names; say with --img-dir where they are')
    return UnlabelledImages.from_json(images, img_dir)


def find_categories(classes: Sequence[str], unlabelled: UnlabelledImages,
                    path: str | None) -> list[dict]:
    """The categories to write, with ids from a file where there is one."""
    if path is None:
        return category_block(classes, unlabelled.categories)
    try:
        known = read_coco(path).get('categories', [])
        return category_block(classes, known, required=True)
    except PseudoLabelError as error:
        raise PseudoLabelError(f'--categories {path}: {error}') from error


def class_names(model: nn.Module, cfg: Config,
                checkpoint: str) -> Sequence[str]:
    """Names saved with the checkpoint, else those of the tested data set.

    mmdet would take COCO's names for any checkpoint without.
    """
    meta = load_checkpoint(checkpoint).get('meta') or {}
    if 'dataset_meta' in meta or 'CLASSES' in meta:
        return model.dataset_meta['classes']
    dataset = dict(cfg.test_dataloader.dataset, lazy_init=True)
    return DATASETS.build(dataset).metainfo['classes']


def describe(args: argparse.Namespace) -> dict:
    """What the results depend on, for the file and for going on with it."""
    return dict(
        config=osp.abspath(args.config),
        cfg_options={
            key: str(value)
            for key, value in (args.cfg_options or {}).items()
        },
        checkpoint=osp.abspath(args.checkpoint),
        checkpoint_bytes=os.path.getsize(args.checkpoint))


def _go_on(out: str) -> str:
    return (f'What was done is in {out}.partial; the same command goes on '
            'from there.')


if __name__ == '__main__':
    with errors_as_exit():
        main()
