"""Small labelled images in the forms that tools export them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

CLASSES = ('white', 'red')
COLOURS = ((255, 255, 255), (0, 0, 255))


class Labelled(NamedTuple):
    """An image and its boxes: class, x, y, width, height."""

    image: np.ndarray
    boxes: list[tuple[int, int, int, int, int]]


def make_images(count: int = 12, seed: int = 0) -> list[Labelled]:
    """Rectangles of two colours on grey noise; the second image has none."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        height, width = rng.integers(90, 120), rng.integers(110, 160)
        image = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
        boxes = []
        for index in range(0 if number == 1 else int(rng.integers(1, 4))):
            w, h = (int(v) for v in rng.integers(15, 45, 2))
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            label = (number + index) % 2
            cv2.rectangle(image, (x, y), (x + w - 1, y + h - 1), COLOURS[label], -1)
            boxes.append((label, x, y, w, h))
        made.append(Labelled(image, boxes))
    return made


def write_coco(
    folder: Path,
    images: list[Labelled],
    name: str = 'labels.json',
    classes: Sequence[str] = CLASSES,
) -> Path:
    """Images and one COCO file in a folder."""
    folder.mkdir(parents=True)
    content = dict(
        images=[], annotations=[], categories=[dict(id=i, name=n) for i, n in enumerate(classes)]
    )
    for number, (image, boxes) in enumerate(images):
        cv2.imwrite(str(folder / f'{number}.png'), image)
        height, width = image.shape[:2]
        content['images'].append(
            dict(id=number, file_name=f'{number}.png', width=width, height=height)
        )
        for label, *box in boxes:
            content['annotations'].append(
                dict(
                    id=len(content['annotations']) + 1,
                    image_id=number,
                    category_id=label,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=0,
                )
            )
    (folder / name).write_text(json.dumps(content))
    return folder


def write_roboflow_coco(folder: Path, images: list[Labelled]) -> Path:
    """Roboflow's COCO export: a folder with its labels for each part."""
    for part, some in (('train', images[:9]), ('valid', images[9:])):
        write_coco(folder / part, some, '_annotations.coco.json')
    return folder


def write_yolo(
    folder: Path, images: list[Labelled], polygons: bool = False, classes: Sequence[str] = CLASSES
) -> Path:
    """Ultralytics' layout."""
    for part, some in (('train', images[:9]), ('val', images[9:])):
        for kind in ('images', 'labels'):
            (folder / kind / part).mkdir(parents=True)
        _write_yolo_part(folder / 'images' / part, folder / 'labels' / part, some, polygons)
    names = ''.join(f'  {index}: {name}\n' for index, name in enumerate(classes))
    (folder / 'data.yaml').write_text(f'train: images/train\nval: images/val\nnames:\n{names}')
    return folder


def write_roboflow_yolo(folder: Path, images: list[Labelled]) -> Path:
    """Roboflow's layout, with paths that lead one folder too far up."""
    for part, some in (('train', images[:9]), ('valid', images[9:])):
        for kind in ('images', 'labels'):
            (folder / part / kind).mkdir(parents=True)
        _write_yolo_part(folder / part / 'images', folder / part / 'labels', some)
    (folder / 'data.yaml').write_text(
        "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['white', 'red']\n"
    )
    return folder


def write_flat_yolo(folder: Path, images: list[Labelled]) -> Path:
    """Pictures and labels in one folder, as labelImg writes them."""
    folder.mkdir()
    _write_yolo_part(folder, folder, images)
    (folder / 'classes.txt').write_text('\n'.join(CLASSES))
    return folder


def _write_yolo_part(
    images: Path, labels: Path, some: list[Labelled], polygons: bool = False
) -> None:
    for number, (image, boxes) in enumerate(some):
        cv2.imwrite(str(images / f'{number}.png'), image)
        height, width = image.shape[:2]
        lines = []
        for label, x, y, w, h in boxes:
            if polygons:
                corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)]
                values = [v for px, py in corners for v in (px / width, py / height)]
            else:
                values = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
            lines.append(' '.join(map(str, [label, *values])))
        if lines:
            (labels / f'{number}.txt').write_text('\n'.join(lines))


def write_voc(folder: Path, images: list[Labelled], classes: Sequence[str] = CLASSES) -> Path:
    """Pascal VOC's layout."""
    (folder / 'Annotations').mkdir(parents=True)
    (folder / 'JPEGImages').mkdir()
    for number, (image, boxes) in enumerate(images):
        cv2.imwrite(str(folder / 'JPEGImages' / f'{number}.png'), image)
        objects = ''.join(
            f'<object><name>{classes[label]}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>'
            f'<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>'
            for label, x, y, w, h in boxes
        )
        (folder / 'Annotations' / f'{number}.xml').write_text(
            f'<annotation><filename>{number}.png</filename><size><width>{image.shape[1]}</width>'
            f'<height>{image.shape[0]}</height><depth>3</depth></size>{objects}</annotation>'
        )
    return folder


WRITERS = dict(
    coco=write_coco,
    roboflow_coco=write_roboflow_coco,
    yolo=write_yolo,
    polygons=lambda folder, images: write_yolo(folder, images, polygons=True),
    roboflow_yolo=write_roboflow_yolo,
    flat_yolo=write_flat_yolo,
    voc=write_voc,
)
