"""Tree crowns in aerial photographs: 951 hand-drawn boxes as COCO tiles.

The wheel of ``deepforest`` 2.1.0 (MIT) carries four labelled photographs of
the NEON airborne observation platform. They are cut into tiles of at most
400 x 400 px. The rules, which decide every count:

* The grid of tiles starts at the photo's top left corner.
* A strip that is left over at the right or bottom edge becomes a tile of its
  own when it is at least 200 px wide, and is left out otherwise.
* A box belongs to the tile that holds its centre and is clipped to it.
* A tile without boxes is left out.
* Held out (``val``) are the whole of OSBS_029, a site that training never
  sees, and the part of the large YELL photo right of x = 1600; the rest is
  ``train``. Tiles do not overlap, so no pixel is in both.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from mmdet_centernet2.utils.pinned_wheel import (
    PinnedFileError,
    PinnedWheel,
    check_sha256,
    fetch_wheel,
    read_member,
    sha256_of,
)

DEEPFOREST = PinnedWheel(
    project='deepforest',
    version='2.1.0',
    filename='deepforest-2.1.0-py3-none-any.whl',
    sha256='8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54',
    num_bytes=20639595,
)
LICENSE_MEMBER = 'deepforest-2.1.0.dist-info/licenses/LICENSE'
HELD_OUT_PHOTO = 'OSBS_029'
LARGE_PHOTO = '2019_YELL_2_528000_4978000_image_crop2'
PHOTOS = (HELD_OUT_PHOTO, 'SOAP_061', '2019_YELL_2_541000_4977000_image_crop', LARGE_PHOTO)
HELD_OUT_FROM_X = 1600
TILE_SIZE = 400
MIN_SIDE = 200
SPLITS = ('train', 'val')
MANIFEST = 'manifest.json'
# Bump when the same wheel would be cut differently.
RECIPE = 1


@dataclass
class Tile:
    """A part of a photo and the boxes whose centres it holds."""

    photo: str
    x: int  # top left corner in the photo, in pixels
    y: int
    image: np.ndarray  # (h, w, 3) uint8, BGR
    boxes: np.ndarray  # (n, 4) float64, x1 y1 x2 y2 in pixels of the tile

    @property
    def split(self) -> str:
        right = self.photo == LARGE_PHOTO and self.x >= HELD_OUT_FROM_X
        return 'val' if right or self.photo == HELD_OUT_PHOTO else 'train'

    @property
    def file_name(self) -> str:
        return f'{self.photo}_x{self.x:04d}_y{self.y:04d}.png'


@dataclass
class Summary:
    """What became of every box."""

    tiles: dict[str, int] = field(default_factory=dict)  # number per split
    boxes: dict[str, int] = field(default_factory=dict)  # number per split
    dropped: dict[str, int] = field(default_factory=dict)  # number per reason

    def lines(self) -> list[str]:
        """The summary as lines for a person."""
        text = [f'{s}: {self.tiles[s]} tiles, {self.boxes[s]} boxes' for s in SPLITS]
        kept, lost = sum(self.boxes.values()), sum(self.dropped.values())
        text.append(f'{kept + lost} boxes read, {kept} kept, {lost} dropped')
        return text + [f'  {count}: {why}' for why, count in self.dropped.items()]


def parse_voc(xml: bytes) -> np.ndarray:
    """Boxes of a VOC annotation file, (N, 4) x1 y1 x2 y2; all labels mean ``tree``.

    Coordinates are edges as they stand: the files use 1 for the left border and
    the image width for the right one.
    """
    ends = ('xmin', 'ymin', 'xmax', 'ymax')
    nodes = ElementTree.fromstring(xml).iter('bndbox')
    boxes = [[float(node.findtext(end, '')) for end in ends] for node in nodes]
    return np.array(boxes).reshape(-1, 4)


def grid(length: int) -> list[tuple[int, int]]:
    """Spans of ``TILE_SIZE`` px in ``[0, length)``, and a rest that is wide enough."""
    spans = [(start, min(start + TILE_SIZE, length)) for start in range(0, length, TILE_SIZE)]
    return [(a, b) for a, b in spans if b - a >= MIN_SIDE]


def cut(photo: str, image: np.ndarray, boxes: np.ndarray) -> list[Tile]:
    """Tiles of a photo that hold at least one box, in reading order."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    tiles = []
    for (y1, y2), (x1, x2) in itertools.product(*map(grid, image.shape[:2])):
        low, high = np.array([x1, y1]), np.array([x2, y2])
        mine = ((centers >= low) & (centers < high)).all(axis=1)
        if mine.any():
            clipped = boxes[mine].reshape(-1, 2, 2).clip(low, high) - low
            tiles.append(Tile(photo, x1, y1, image[y1:y2, x1:x2], clipped.reshape(-1, 4)))
    return tiles


def coco_dict(tiles: list[Tile]) -> dict:
    """The tiles as COCO ground truth."""
    images, annotations = [], []
    for image_id, tile in enumerate(tiles, start=1):
        height, width = tile.image.shape[:2]
        image = dict(id=image_id, file_name=tile.file_name, width=width, height=height)
        images.append(dict(image, photo=tile.photo, offset=[tile.x, tile.y]))
        for x1, y1, x2, y2 in tile.boxes.tolist():
            box = dict(bbox=[x1, y1, x2 - x1, y2 - y1], area=(x2 - x1) * (y2 - y1), iscrowd=0)
            ids = dict(id=len(annotations) + 1, image_id=image_id, category_id=1)
            annotations.append({**ids, **box})
    about = 'Tree crowns in NEON aerial photographs, 400-px tiles'
    source = f'{DEEPFOREST.project} {DEEPFOREST.version} (MIT)'
    return dict(
        info=dict(description=about, source=source),
        licenses=[dict(id=1, name='MIT')],
        categories=[dict(id=1, name='tree', supercategory='plant')],
        images=images,
        annotations=annotations,
    )


def prepare_tree_tiles(
    out: Path,
    wheel: PinnedWheel = DEEPFOREST,
    wheel_path: Path | None = None,
    say: Callable[[str], None] = print,
) -> Summary:
    """Make the tiles in ``out`` unless they are already there, whole.

    ``out`` then holds ``train/*.png``, ``val/*.png``,
    ``annotations/{train,val}.json``, the licence of the photos and a manifest
    with a hash of every file. Files are built in a folder beside ``out`` and
    moved in at the end: an interrupted call leaves no half of a data set.

    Args:
        out: Folder of the data set, e.g. ``data/tree_tiles``.
        wheel: The pinned wheel.
        wheel_path: The wheel's file, where it is already at hand.
        say: Called with each line meant for the user.

    Raises:
        PinnedFileError: The wheel could not be had or is not the pinned one,
            ``out`` holds something else, or no space is left.
    """
    ready = read_manifest(out, wheel)
    if ready is not None:
        return ready
    if out.exists() and not (out / MANIFEST).is_file() and (out.is_file() or any(out.iterdir())):
        raise PinnedFileError(
            f'{out} was not made by this tool (it has no {MANIFEST}); nothing was touched. Name '
            'another folder'
        )
    if wheel_path is None:
        wheel_path = fetch_wheel(wheel, say=say)
    check_sha256(wheel_path, wheel)
    parent = out.absolute().parent
    say(f'Cutting the photos into tiles under {out} ...')
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix='.tree_tiles-') as folder:
            scratch = Path(folder)
            summary = _build(wheel_path, scratch, wheel)
            if (out / MANIFEST).is_file():  # a repair, by the next call if this one is stopped
                shutil.copytree(scratch, out, dirs_exist_ok=True)
            else:
                scratch.chmod(0o755)
                os.replace(scratch, out)
    except OSError as error:
        raise PinnedFileError(f'cannot write {out}: {error}; mend that and run it again') from error
    return summary


def read_manifest(out: Path, wheel: PinnedWheel) -> Summary | None:
    """The summary of a data set; None when a file of it is lost, changed or older."""
    try:
        manifest = json.loads((out / MANIFEST).read_text())
        whole = manifest['recipe'] == RECIPE and manifest['wheel_sha256'] == wheel.sha256
        if whole and all(sha256_of(out / name) == of for name, of in manifest['files'].items()):
            return Summary(**manifest['summary'])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _build(wheel_path: Path, folder: Path, wheel: PinnedWheel) -> Summary:
    """Write the whole data set into an empty folder."""
    summary, tiles = Summary(), []
    for photo in PHOTOS:
        png, xml = (f'deepforest/data/{photo}.{end}' for end in ('png', 'xml'))
        pixels = np.frombuffer(read_member(wheel_path, png), np.uint8)
        image = cv2.imdecode(pixels, cv2.IMREAD_COLOR)
        boxes = parse_voc(read_member(wheel_path, xml))
        found = cut(photo, image, boxes)
        if lost := len(boxes) - sum(len(tile.boxes) for tile in found):
            why = f'centre in an edge strip of {photo} narrower than {MIN_SIDE} px'
            summary.dropped[why] = lost
        tiles += found
    files = {'LICENSE': read_member(wheel_path, LICENSE_MEMBER)}
    for tile in tiles:
        path = f'{tile.split}/{tile.file_name}'
        files[path] = cv2.imencode('.png', tile.image)[1].tobytes()
    for split in SPLITS:
        members = [tile for tile in tiles if tile.split == split]
        files[f'annotations/{split}.json'] = json.dumps(coco_dict(members), indent=1).encode()
        summary.tiles[split] = len(members)
        summary.boxes[split] = sum(len(tile.boxes) for tile in members)
    manifest = dict(
        recipe=RECIPE,
        wheel_sha256=wheel.sha256,
        summary=vars(summary),
        files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    )
    files[MANIFEST] = json.dumps(manifest, indent=1).encode()
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return summary
