"""Tree crowns in aerial photographs: 951 hand-drawn boxes as COCO tiles.

The wheel of ``deepforest`` 2.1.0 (MIT) carries four labelled photographs of
the NEON airborne observation platform. They are cut into tiles of at most
400 x 400 px. The rules, which decide every count:

* The grid of tiles starts at the photo's top left corner.
* A strip that is left over at the right or bottom edge becomes a tile of its
  own when it is at least ``min_side`` px wide, and is left out otherwise.
* A box belongs to the tile that holds its centre and is clipped to it.
* A tile without boxes is left out.
* Held out (``val``) are the whole of OSBS_029, a site that training never
  sees, and the part of the large YELL photo right of x = 1600; the rest is
  ``train``. Tiles do not overlap, so no pixel is in both.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from mmdet_centernet2.utils.files import scratch_folder
from mmdet_centernet2.utils.pinned_wheel import (
    PinnedFileError,
    PinnedWheel,
    check_sha256,
    fetch_wheel,
    make_folder_with_space,
    read_members,
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
PHOTOS = (
    'OSBS_029',
    'SOAP_061',
    '2019_YELL_2_541000_4977000_image_crop',
    '2019_YELL_2_528000_4978000_image_crop2',
)
LARGE_PHOTO = '2019_YELL_2_528000_4978000_image_crop2'
HELD_OUT_PHOTO = 'OSBS_029'
HELD_OUT_FROM_X = 1600
TILE_SIZE = 400
MIN_SIDE = 200
LABELS = ('Tree', 'Alive', 'Dead')
SPLITS = ('train', 'val')
MANIFEST = 'manifest.json'
# Bump when the same wheel would be cut differently.
RECIPE = 1
# The 45 tiles take 16 MiB as PNG; twice that covers building beside the old.
NUM_BYTES = 40 * 2**20


class TreeTilesError(PinnedFileError):
    """The tree tiles could not be made; the message says what to do."""


@dataclass
class Photo:
    """A labelled photograph.

    Attributes:
        name: File name without suffix.
        image: (H, W, 3) uint8, BGR.
        boxes: (N, 4) float64, x1 y1 x2 y2 in pixels, edges not pixel indices.
    """

    name: str
    image: np.ndarray
    boxes: np.ndarray


@dataclass
class Tile:
    """A part of a photo and the boxes whose centres it holds.

    Attributes:
        photo: Name of the photo.
        x, y: Top left corner in the photo, in pixels.
        image: (h, w, 3) uint8, BGR.
        boxes: (n, 4) float64, x1 y1 x2 y2 in pixels of the tile.
    """

    photo: str
    x: int
    y: int
    image: np.ndarray
    boxes: np.ndarray

    @property
    def split(self) -> str:
        """'val' when held out, else 'train'."""
        if self.photo == HELD_OUT_PHOTO:
            return 'val'
        right = self.photo == LARGE_PHOTO and self.x >= HELD_OUT_FROM_X
        return 'val' if right else 'train'

    @property
    def file_name(self) -> str:
        return f'{self.photo}_x{self.x:04d}_y{self.y:04d}.png'


@dataclass
class Summary:
    """What became of every box.

    Attributes:
        tiles: Number of tiles per split.
        boxes: Number of boxes per split.
        boxes_read: Boxes in the photos' annotations.
        dropped: Boxes left out, per reason (the reason names the place).
    """

    tiles: dict[str, int] = field(default_factory=dict)
    boxes: dict[str, int] = field(default_factory=dict)
    boxes_read: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The summary as lines for a person."""
        text = [
            f'{split}: {self.tiles[split]} tiles, {self.boxes[split]} boxes' for split in SPLITS
        ]
        kept, lost = sum(self.boxes.values()), sum(self.dropped.values())
        text.append(f'{self.boxes_read} boxes read, {kept} kept, {lost} dropped')
        text += [f'  {count}: {why}' for why, count in self.dropped.items()]
        return text


def parse_voc(xml: bytes, where: str) -> np.ndarray:
    """Boxes of one VOC annotation file; all labels mean ``tree``.

    Coordinates are taken as box edges as they stand: the files use 1 for the
    left border and the image width for the right one.

    Args:
        xml: Content of the file.
        where: Its name, for messages.

    Returns:
        ndarray: (N, 4) x1 y1 x2 y2 in pixels.

    Raises:
        TreeTilesError: Broken XML, an unknown label or a box without numbers.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise TreeTilesError(f'{where}: not valid XML ({error})') from error
    boxes = []
    for index, node in enumerate(root.iter('object')):
        label = node.findtext('name')
        if label not in LABELS:
            raise TreeTilesError(
                f'{where}: object {index} is labelled {label!r}; known are {LABELS}'
            )
        try:
            boxes.append(
                [float(node.findtext(f'bndbox/{key}')) for key in ('xmin', 'ymin', 'xmax', 'ymax')]
            )
        except (TypeError, ValueError) as error:
            raise TreeTilesError(
                f'{where}: object {index} has no readable bndbox ({error})'
            ) from error
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def read_photos(wheel_path: Path) -> Iterator[Photo]:
    """The labelled photos of the wheel, one after the other.

    Raises:
        PinnedFileError: The wheel is no whole zip or lacks a member.
        TreeTilesError: A PNG or XML in it cannot be read.
    """
    for name in PHOTOS:
        png, xml = (f'deepforest/data/{name}.{end}' for end in ('png', 'xml'))
        data = read_members(wheel_path, [png, xml])
        image = cv2.imdecode(np.frombuffer(data[png], np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise TreeTilesError(f'{wheel_path}: {png} is no readable image')
        yield Photo(name, image, parse_voc(data[xml], xml))


def grid(length: int, tile: int, min_side: int) -> list[tuple[int, int]]:
    """Cut ``[0, length)`` px into spans of ``tile`` px and a rest.

    The rest is a span of its own when it has at least ``min_side`` px.
    """
    spans = [(start, min(start + tile, length)) for start in range(0, length, tile)]
    return [(a, b) for a, b in spans if b - a >= min(min_side, tile)]


def cut(
    photo: Photo, dropped: Counter, tile: int = TILE_SIZE, min_side: int = MIN_SIDE
) -> list[Tile]:
    """Tiles of one photo that hold at least one box.

    Args:
        photo: What to cut.
        dropped: Gets one count per lost box under the reason.
        tile: Side of a tile in pixels.
        min_side: Smallest side of a tile at the right and bottom edge.

    Returns:
        In reading order.
    """
    boxes = _without_broken(photo, dropped)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    owned = np.zeros(len(boxes), dtype=bool)
    tiles = []
    height, width = photo.image.shape[:2]
    for y1, y2 in grid(height, tile, min_side):
        for x1, x2 in grid(width, tile, min_side):
            low, high = np.array([x1, y1]), np.array([x2, y2])
            mine = ((centers >= low) & (centers < high)).all(axis=1)
            if not mine.any():
                continue
            owned |= mine
            clipped = boxes[mine].reshape(-1, 2, 2).clip(low, high) - low
            tiles.append(
                Tile(photo.name, x1, y1, photo.image[y1:y2, x1:x2], clipped.reshape(-1, 4))
            )
    lost = int((~owned).sum())
    if lost:
        dropped[f'centre in an edge strip of {photo.name} narrower than {min_side} px'] += lost
    return tiles


def _without_broken(photo: Photo, dropped: Counter) -> np.ndarray:
    """Boxes with finite coordinates, a positive size and a centre inside."""
    boxes = photo.boxes
    height, width = photo.image.shape[:2]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    good = np.isfinite(boxes).all(axis=1)
    good &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    good &= ((centers >= 0) & (centers < (width, height))).all(axis=1)
    if not good.all():
        dropped[f'empty, not finite or outside {photo.name}'] += int((~good).sum())
    return boxes[good]


def coco_dict(tiles: list[Tile]) -> dict:
    """A COCO ground-truth dict of some tiles, with the one class ``tree``."""
    images, annotations = [], []
    for image_id, tile in enumerate(tiles, start=1):
        height, width = tile.image.shape[:2]
        images.append(
            dict(
                id=image_id,
                file_name=tile.file_name,
                width=width,
                height=height,
                photo=tile.photo,
                offset=[tile.x, tile.y],
            )
        )
        for x1, y1, x2, y2 in tile.boxes.tolist():
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=1,
                    iscrowd=0,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                )
            )
    return dict(
        info=dict(
            description='Tree crowns in NEON aerial photographs, 400-px tiles',
            source=f'{DEEPFOREST.project} {DEEPFOREST.version} (MIT)',
        ),
        licenses=[dict(id=1, name='MIT')],
        categories=[dict(id=1, name='tree', supercategory='plant')],
        images=images,
        annotations=annotations,
    )


def prepare_tree_tiles(
    out: Path,
    wheel: PinnedWheel = DEEPFOREST,
    wheel_path: Path | None = None,
    cache: Path | None = None,
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
        cache: Where a fetched wheel is kept.
        say: Called with each line meant for the user.

    Returns:
        Counts of tiles and boxes, kept and dropped.

    Raises:
        PinnedFileError: The wheel could not be had or is not the pinned one.
        TreeTilesError: ``out`` holds something else, or no space is left.
    """
    out = Path(out)
    ready = read_manifest(out, wheel)
    if ready is not None:
        return ready
    _refuse_foreign(out)
    if wheel_path is None:
        wheel_path = fetch_wheel(wheel, cache, say)
    else:
        check_sha256(Path(wheel_path), wheel)
    make_folder_with_space(out.absolute().parent, NUM_BYTES)
    say(f'Cutting the photos into tiles under {out} ...')
    try:
        with scratch_folder(out.absolute().parent, '.tree_tiles-') as scratch:
            summary = _build(Path(wheel_path), scratch, wheel)
            _move_in(scratch, out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TreeTilesError(
                f'no space left while writing {out}; free '
                f'{NUM_BYTES / 2**20:.0f} MiB and run the same command '
                'again'
            ) from error
        raise TreeTilesError(f'cannot write {out}: {error}') from error
    return summary


def read_manifest(out: Path, wheel: PinnedWheel) -> Summary | None:
    """The summary of a whole data set in ``out``; None when it is not whole.

    Every file's hash is compared: a lost or changed tile means "not whole".
    """
    try:
        manifest = json.loads((out / MANIFEST).read_text())
        if manifest['recipe'] != RECIPE or manifest['wheel_sha256'] != wheel.sha256:
            return None
        for name, digest in manifest['files'].items():
            if sha256_of(out / name) != digest:
                return None
        return Summary(**manifest['summary'])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _refuse_foreign(out: Path) -> None:
    """Raise when ``out`` holds files that were not made here."""
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise TreeTilesError(
            f'{out} is not empty and was not made by this tool (it has no '
            f'{MANIFEST}); nothing was touched. Name another folder'
        )
    if out.exists() and not out.is_dir():
        raise TreeTilesError(f'{out} is a file; name a folder')


def _build(wheel_path: Path, folder: Path, wheel: PinnedWheel) -> Summary:
    """Write the whole data set into an empty folder."""
    summary, dropped = Summary(), Counter()
    tiles: dict[str, list[Tile]] = {split: [] for split in SPLITS}
    for photo in read_photos(wheel_path):
        summary.boxes_read += len(photo.boxes)
        for tile in cut(photo, dropped):
            tiles[tile.split].append(tile)
    files = {}
    for split, members in tiles.items():
        for tile in members:
            png = cv2.imencode('.png', tile.image)[1].tobytes()
            files[f'{split}/{tile.file_name}'] = png
        text = json.dumps(coco_dict(members), indent=1)
        files[f'annotations/{split}.json'] = text.encode()
        summary.tiles[split] = len(members)
        summary.boxes[split] = sum(len(tile.boxes) for tile in members)
    summary.dropped = dict(dropped)
    files['LICENSE'] = read_members(wheel_path, [LICENSE_MEMBER])[LICENSE_MEMBER]
    manifest = dict(
        recipe=RECIPE,
        wheel_sha256=wheel.sha256,
        summary=vars(summary),
        files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    )
    files[MANIFEST] = json.dumps(manifest, indent=1).encode()
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return summary


def _move_in(scratch: Path, out: Path) -> None:
    """Put a built data set in place: at once, or file by file to repair one.

    An interrupted repair is repaired by the next call: the hashes in the
    manifest do not fit the files.
    """
    if out.exists() and any(out.iterdir()):
        shutil.copytree(scratch, out, dirs_exist_ok=True)
    else:
        scratch.chmod(0o755)
        os.replace(scratch, out)
