"""Tiny data sets in the place of those that a config names.

Files are written where the config looks for them below its ``data`` folder,
in the format of the data set's class: COCO, Objects365, LVIS or nuImages with
run-length masks, all categories included.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import ConfigDict
from PIL import Image
from pycocotools import mask as rle

#: Height and width in pixels, and boxes (x, y, width, height, label).
PICTURES = (
    ((72, 104), ((8, 10, 34, 30, 0), (52, 20, 44, 44, 1))),
    ((72, 104), ((20, 6, 60, 60, 2), (4, 40, 22, 28, 0))),
)
#: The lowest category id, 1 where it is not said.
FIRST_IDS = {'NuImagesDataset': 0}
HOST = 'http://images.cocodataset.org/'


def datasets_of(cfg: ConfigDict) -> Iterator[ConfigDict]:
    """The data sets of a loader, those inside a wrapper one by one."""
    if 'datasets' in cfg:
        for part in cfg.datasets:
            yield from datasets_of(part)
    else:
        yield cfg


def relocate(value, root: Path):
    """Let every path below ``data/`` in a config start at ``root``."""
    if isinstance(value, dict):
        return {key: relocate(part, root) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(relocate(part, root) for part in value)
    if isinstance(value, str) and value.startswith('data/'):
        return str(root / value)
    return value


def write_dataset(dataset: ConfigDict) -> None:
    """Write the images and annotations of one relocated data set."""
    root, kind = Path(dataset.data_root), dataset.type
    names = dataset.get('metainfo', DATASETS.get(kind).METAINFO)['classes']
    lvis = kind == 'CenterNet2LVISDataset'
    folder = dataset.data_prefix.img or ('train2017/' if lvis else '')
    first_id = FIRST_IDS.get(kind, 1)
    content = dict(images=[], annotations=[], categories=_categories(names, first_id))
    for image_id, (size, boxes) in enumerate(PICTURES):
        name = f'{image_id:012d}.jpg'
        _write_image(root / folder / name, size, boxes, image_id)
        content['images'].append(
            _image(image_id, folder + name if lvis else name, size, boxes, lvis)
        )
        for *box, label in boxes:
            content['annotations'].append(
                _annotation(
                    len(content['annotations']) + 1,
                    image_id,
                    box,
                    first_id + label % len(names),
                    size,
                )
            )
    path = root / dataset.ann_file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _categories(names: Sequence[str], first_id: int) -> list[dict]:
    return [
        dict(id=i, name=name, frequency='rcf'[i % 3], image_count=1)
        for i, name in enumerate(names, first_id)
    ]


def _image(image_id: int, name: str, size: tuple, boxes: tuple, lvis: bool) -> dict:
    image = dict(id=image_id, file_name=name, height=size[0], width=size[1])
    if lvis:
        del image['file_name']
        image.update(coco_url=HOST + name, neg_category_ids=[4], not_exhaustive_category_ids=[])
    return image


def _annotation(
    annotation_id: int, image_id: int, box: Sequence[int], category_id: int, size: tuple
) -> dict:
    x, y, width, height = box
    mask = np.zeros(size, np.uint8, order='F')
    mask[y : y + height, x : x + width] = 1
    encoded = rle.encode(mask)
    return dict(
        id=annotation_id,
        image_id=image_id,
        category_id=category_id,
        bbox=[x, y, width, height],
        area=width * height,
        iscrowd=0,
        score=0.9,  # pseudo labels have one
        segmentation=dict(size=list(size), counts=encoded['counts'].decode()),
    )


def _write_image(path: Path, size: tuple, boxes: tuple, seed: int) -> None:
    """Noise with a rectangle for each box."""
    picture = np.random.RandomState(seed).randint(90, 150, (*size, 3))
    for x, y, width, height, label in boxes:
        picture[y : y + height, x : x + width] = 20 + 100 * label
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.astype(np.uint8)).save(path, quality=95)
