"""A data set and a CenterNet2 small enough to train on a CPU in seconds.

Shared by the tests that need a whole run: six pictures of bright rectangles
on noise (two of them without objects) and the flagship config with its parts
shrunk, none left out.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from tests.paths import CONFIGS

FLAGSHIP = CONFIGS / 'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py'

CLASSES = ('light', 'dark')
SIZE = (96, 128)  # height, width in pixels

# Boxes of each picture as (x, y, width, height, category id).
PICTURES = (
    ((10, 12, 40, 30, 1), (70, 40, 36, 44, 2)),
    ((20, 20, 50, 50, 2), (84, 8, 30, 30, 1)),
    ((5, 40, 44, 40, 1), (60, 10, 60, 60, 1), (90, 74, 24, 16, 2)),
    (),
    (),
    ((30, 30, 64, 48, 2),),
)


def write_dataset(root: Path, pictures=PICTURES, size=SIZE) -> Path:
    """Write a COCO-format data set.

    Args:
        root (Path): Folder to write ``images/*.png`` and ``annotations.json``
            into.
        pictures (Sequence): Boxes of each picture.
        size (tuple[int, int]): Height and width of the pictures.

    Returns:
        Path: ``root``.
    """
    (root / 'images').mkdir(parents=True)
    images, annotations = [], []
    for index, boxes in enumerate(pictures):
        name = f'{index:03d}.png'
        Image.fromarray(_draw(boxes, index, size)).save(root / 'images' / name)
        images.append(dict(id=index, file_name=name, height=size[0], width=size[1]))
        for x, y, w, h, category in boxes:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index,
                    category_id=category,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                )
            )
    categories = [dict(id=i, name=n) for i, n in enumerate(CLASSES, 1)]
    (root / 'annotations.json').write_text(
        json.dumps(dict(images=images, annotations=annotations, categories=categories))
    )
    return root


def tiny_config(data: Path, size=SIZE, **options) -> Config:
    """The flagship config, shrunk: ResNet-18, 32 channels, small images.

    Every part is there: five levels, the proposal head, three cascade stages
    and the whole data pipeline. Nothing is downloaded.

    Args:
        data (Path): Folder of :func:`write_dataset`, for training and tests.
        size (tuple[int, int]): Height and width of its pictures.
        **options: Config keys with dots written as ``__``, merged last.

    Returns:
        Config: To be built, or written with ``dump``.
    """
    cfg = Config.fromfile(FLAGSHIP)
    cfg.merge_from_dict(small_options(data, size))
    cfg.merge_from_dict(
        {
            'train_cfg': dict(
                _delete_=True, type='IterBasedTrainLoop', max_iters=2, val_interval=2
            ),
            'default_hooks.checkpoint.interval': 2,
            'default_hooks.logger.interval': 1,
        }
    )
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    return cfg


def small_options(data: Path, size=SIZE) -> dict:
    """What shrinks the flagship config, for ``merge_from_dict``.

    Args:
        data (Path): Folder of :func:`write_dataset`.
        size (tuple[int, int]): Height and width of its pictures.
    """
    return {**_model_options(), **_data_options(data, min(size))}


def _model_options() -> dict:
    width = 32
    options = {
        'model.backbone.depth': 18,
        'model.backbone.style': 'pytorch',
        'model.backbone.init_cfg': None,
        'model.neck.in_channels': [128, 256, 512],
        'model.neck.out_channels': width,
        'model.rpn_head.in_channels': width,
        'model.rpn_head.norm_cfg.num_groups': 8,
        'model.roi_head.bbox_roi_extractor.out_channels': width,
        'model.train_cfg.rpn_proposal.max_per_img': 100,
        'model.train_cfg.rcnn.0.sampler.num': 64,
    }
    head = 'model.roi_head.bbox_head'
    options.update(
        {
            f'{head}.in_channels': width,
            f'{head}.fc_out_channels': 64,
            f'{head}.num_classes': len(CLASSES),
        }
    )
    return options


def _data_options(data: Path, short_edge: int) -> dict:
    options = {}
    for split in ('train', 'val', 'test'):
        loader = f'{split}_dataloader'
        options.update(
            {
                f'{loader}.num_workers': 0,
                f'{loader}.persistent_workers': False,
                f'{loader}.pin_memory': False,
                f'{loader}.dataset.data_root': f'{data}/',
                f'{loader}.dataset.ann_file': 'annotations.json',
                f'{loader}.dataset.data_prefix.img': 'images/',
                f'{loader}.dataset.metainfo': dict(classes=CLASSES),
            }
        )
    options['train_dataloader.dataset.pipeline.2.scales'] = [short_edge]
    for split in ('val', 'test'):
        pipeline = f'{split}_dataloader.dataset.pipeline'
        options[f'{pipeline}.1.scale'] = (1333, short_edge)
        options[f'{split}_evaluator.ann_file'] = f'{data}/annotations.json'
    return options


def _draw(boxes, seed: int, size) -> np.ndarray:
    """Noise with one rectangle for each box, bright or dark by category."""
    rng = np.random.RandomState(seed)
    picture = rng.randint(90, 150, (*size, 3)).astype(np.uint8)
    for x, y, w, h, category in boxes:
        picture[y : y + h, x : x + w] = (230, 20)[category - 1]
    return picture
