"""Reading and cropping pictures for training."""
from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Callable, List, Sequence

import mmcv.transforms
import numpy as np
from PIL import Image

from mmdet_centernet2.benchmarks.section import Context, Row, Section
from mmdet_centernet2.datasets.transforms import (CheckedLoadImageFromFile,
                                                  EfficientDetResizeCrop)

#: Height and width of pictures, and the side of the crop: as in the configs
#: for COCO and nuImages, and a camera's.
CASES = (((480, 640), 640), ((480, 640), 1280), ((900, 1600), 640),
         ((3000, 4000), 640))


def write_jpeg(path: Path, size: Sequence[int], seed: int) -> None:
    """Write a picture of coloured clouds, no easier to decode than a photo.

    Args:
        path (Path): To write.
        size (Sequence[int]): Height and width in pixels.
        seed (int): Of the clouds.
    """
    rng = np.random.RandomState(seed)
    picture = np.zeros((*size, 3), np.float32)
    for cells in (4, 16, 64, 256):  # coarse clouds are the strongest
        noise = rng.randint(0, 256, (cells, cells, 3), np.uint8)
        layer = Image.fromarray(noise).resize(size[::-1], Image.BICUBIC)
        picture += np.asarray(layer, np.float32) / cells**0.5
    picture *= 255 / picture.max()
    Image.fromarray(picture.astype(np.uint8)).save(path, quality=90)


def _reader(paths: Sequence[Path], transforms: Sequence[Callable]
            ) -> Callable[[], None]:
    """A call that puts all pictures through a pipeline, drawn alike."""

    def read() -> None:
        np.random.seed(0)
        for path in paths:
            results = dict(img_path=str(path))
            for transform in transforms:
                results = transform(results)

    return read


def _compare(context: Context, folder: Path, size: Sequence[int],
             crop: int, count: int) -> List[Row]:
    paths = [folder / f'{size[0]}-{i}.jpg' for i in range(count)]
    for seed, path in enumerate(paths):
        if not path.exists():
            write_jpeg(path, size, seed)
    plain = _reader(paths, [
        mmcv.transforms.LoadImageFromFile(imdecode_backend='pillow'),
        EfficientDetResizeCrop(crop, crop_first=False)
    ])
    ours = _reader(paths, [
        CheckedLoadImageFromFile(imdecode_backend='pillow', lazy=True),
        EfficientDetResizeCrop(crop)
    ])
    rows = context.compare(
        f'{count} JPEGs of {size[0]} x {size[1]}, crop {crop}',
        dict(plain=plain, ours=ours))
    for row in rows:
        row.numbers['images/s'] = count / row.timing.median
    return rows


def run(context: Context) -> List[Row]:
    """Photographs of three sizes, one process."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            row for size, crop in context.pick(CASES, CASES[:1])
            for row in _compare(context, Path(folder), size, crop,
                                context.pick(16, 4))
        ]


SECTION = Section(
    'pipeline',
    'Reading JPEGs and cropping them as EfficientDet does, factors 0.1 to 2, '
    'one process. *Plain* decodes with mmcv\'s reader, resizes everything and '
    'then crops; ours resizes what the crop leaves, without an array of the '
    'whole picture. Decoding is the same in both.', run)
