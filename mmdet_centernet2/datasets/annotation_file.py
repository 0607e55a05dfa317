"""Reading COCO-format annotation files as labelling tools really write them.

What has one meaning is read (missing ``area``, ids from 0, an unused root
category); what cannot be right is refused before anything is trained on it.
"""

from __future__ import annotations

import json
import logging
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any, NoReturn

import numpy as np
from mmengine.logging import print_log
from pycocotools import mask as mask_utils

from mmdet_centernet2.utils.errors import UserError

#: This share of bad boxes is dropped with a warning rather than refused: two
#: of the 860,001 boxes of COCO train2017 have no height.
TOLERATED_SHARE = 1e-5
_SHOWN = 10  # entries listed in a message; the rest are counted
# a list of numbers, nested or not, and what must follow it
_NUMBERS = re.compile(
    rb'"segmentation":\s*\[[\s\[]*[^\s\[\]"{}][^"{}]*\](?=\s*(?:,\s*"[^"]*"\s*:|\}))'
)


class AnnotationError(UserError, ValueError):
    """An annotation file that cannot be trained on or tested with."""


@dataclass
class AnnotationTable:
    """A checked annotation file, with a row for each annotation in its order.

    Attributes:
        images: The file's entries; ``width`` and ``height`` are integers.
        categories: The file's entries.
        image_rows: Index in ``images``, (N,).
        category_rows: Index in ``categories``, (N,).
        boxes: x, y, width, height in pixels, (N, 4).
        areas: Square pixels, (N,); width times height where it was missing.
        crowds: ``iscrowd``, boolean, (N,).
        ignored: ``ignore``, boolean, (N,).
        masks: ``segmentation``, N; none unless masks are kept.
    """

    images: list[dict]
    categories: list[dict]
    image_rows: np.ndarray
    category_rows: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowds: np.ndarray
    ignored: np.ndarray
    masks: list

    def ids_of_classes(self, classes: Iterable[str]) -> list:
        """Category ids of the class names that the file has, in their order."""
        ids = {c['name']: c['id'] for c in self.categories}
        return [ids[name] for name in classes if name in ids]

    def labels(self, category_ids: Sequence) -> np.ndarray:
        """Index in ``category_ids`` of each annotation, (N,); -1 if it is not there."""
        label_of = {key: label for label, key in enumerate(category_ids)}
        labels = [label_of.get(c['id'], -1) for c in self.categories]
        return np.array(labels, int)[self.category_rows]

    def to_coco(self) -> dict:
        """The content of the file, completed.

        Annotation ids are 1, 2, ..., as pycocotools takes 0 for "no match".
        """
        rows = zip(
            range(1, len(self.areas) + 1),
            [self.images[row]['id'] for row in self.image_rows],
            [self.categories[row]['id'] for row in self.category_rows],
            self.boxes.tolist(),
            self.areas.tolist(),
            self.crowds.astype(int).tolist(),
            self.ignored.astype(int).tolist(),
        )
        annotations = [dict(zip(_KEPT, row)) for row in rows]
        return dict(images=self.images, annotations=annotations, categories=self.categories)


def read_table(path: str | Path, name: str | None = None, **options) -> AnnotationTable:
    """Read, check and complete an annotation file.

    Args:
        path: A COCO- or LVIS-format JSON file.
        name: How messages call the file; ``path`` by default.
        **options: ``bad_boxes`` ('error' refuses boxes that cannot be right,
            'drop' removes, counts and lists them); ``masks``, whether
            ``segmentation`` is needed; ``keep_masks``, whether it is kept if
            it is there; ``evaluation``, whether the content is the ground
            truth of an evaluation (then ``ignore`` marks a crowd, files need no
            names, and the few bad boxes that :data:`TOLERATED_SHARE` allows stay,
            as the official figures count them); ``file_key``, the key of an
            image's file name.

    Raises:
        AnnotationError: If the file is at fault.
        ValueError: If ``bad_boxes`` is unknown.
    """
    return _Reader(str(name or path), **options).read(path)


def read_annotations(path: str | Path, name: str | None = None, **options) -> dict:
    """As :func:`read_table`, but gives the content of a COCO file, without masks."""
    return read_table(path, name, **options).to_coco()


# -----what fields must hold-----
def _is_number(value: Any) -> bool:
    """Whether a value is finite and fits a float."""
    if value.__class__ is float:
        return math.isfinite(value)
    return value.__class__ is int and -1e300 < value < 1e300


def _is_id(value: Any) -> bool:
    if value.__class__ is float:
        return value.is_integer()
    return value.__class__ in (int, str)


def _is_box(value: Any) -> bool:
    return value.__class__ is list and len(value) == 4 and all(map(_is_number, value))


def _is_polygon(points: Any) -> bool:
    try:
        finite = math.isfinite(sum(array('d', points)))
    except (TypeError, OverflowError):
        return False
    return finite and isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0


_TRUE = (1, '1')
_ID = (_is_id, 'a whole number or text')
_SIDE = (lambda v: _is_number(v) and v >= 1 and v == int(v), 'a number of pixels')
_FLAG = (lambda v: v in (None, '', 0, '0', *_TRUE), '0 or 1')
_FIELDS = dict(
    id=_ID,
    file_name=(lambda v: isinstance(v, str) and v != '', 'the name of the image file'),
    coco_url=(
        lambda v: isinstance(v, str) and v != '',
        'the address from which LVIS v1 makes file names; is this LVIS v0.5 (LVISV05Dataset) '
        'or COCO (CenterNet2CocoDataset)?',
    ),
    height=_SIDE,
    width=_SIDE,
    name=(lambda v: isinstance(v, str), 'text'),
    image_id=_ID,
    category_id=_ID,
    area=(lambda v: v is None or (_is_number(v) and v >= 0), 'square pixels, or left out'),
    iscrowd=_FLAG,
    ignore=_FLAG,
)
_KEPT = ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'ignore')  # of annotations


@dataclass
class _Reader:
    """One reading of one file; see :func:`read_table`."""

    name: str
    bad_boxes: str = 'error'
    masks: bool = False
    keep_masks: bool = False
    evaluation: bool = False
    file_key: str = 'file_name'

    def __post_init__(self) -> None:
        if self.bad_boxes not in ('error', 'drop'):
            raise ValueError(f"bad_boxes must be 'error' or 'drop', got {self.bad_boxes!r}")
        self.keep_masks |= self.masks
        self.bad: dict[int, str] = {}  # what is wrong, by the index of the annotation

    def fail(self, what: str) -> NoReturn:
        raise AnnotationError(f'{self.name}: {what}')

    def warn(self, what: str) -> None:
        print_log(f'{self.name}: {what}', 'current', logging.WARNING)

    def read(self, path: str | Path) -> AnnotationTable:
        self._load(path)
        files = () if self.evaluation else (self.file_key,)
        self._check('image', 'height', 'width', *files)
        self._check('category', 'name')
        self._check('annotation', 'image_id', 'category_id', 'area', 'iscrowd', 'ignore')
        self._check_repeated_names()
        columns, images = self.columns, self.entries['image']
        for image in images:
            image.update(width=int(image['width']), height=int(image['height']))
        self.image_rows, category_rows = self._rows('image'), self._rows('category')
        sizes = np.array([(image['width'], image['height']) for image in images], float)
        self.sizes = sizes[self.image_rows]
        nothing = [math.nan] * 4
        boxes = [box if _is_box(box) else nothing for box in columns['bbox']]
        self.boxes = np.array(boxes, float).reshape(-1, 4)
        self._check_format()
        self._check_repeats(category_rows)
        self._check_boxes()
        if self.masks:
            self._check_masks()
        rows = self._rows_to_keep()
        boxes = self.boxes[rows]
        crowds, ignored = (
            np.array([value in _TRUE for value in columns[key]], bool)[rows]
            for key in ('iscrowd', 'ignore')
        )
        return AnnotationTable(
            images,
            self.entries['category'],
            self.image_rows[rows],
            category_rows[rows],
            boxes,
            self._areas()[rows],
            crowds | ignored if self.evaluation else crowds,
            ignored,
            [columns['segmentation'][row] for row in rows] if self.keep_masks else [],
        )

    # -----the file-----
    def _load(self, path: str | Path) -> None:
        text = Path(path).read_bytes()
        start = text[:20]
        if not self.keep_masks:  # saves half of the time
            text = _NUMBERS.sub(b'"segmentation":0', text)
        try:
            content = json.loads(text, object_pairs_hook=self._entry)
            if type(content) is not dict:
                raise ValueError('it is something else')
            content['annotations'] = content.get('annotations') or []  # of unlabelled images
            for key in ('images', 'categories', 'annotations'):
                entries, kinds = content.get(key), (dict, tuple)[: 1 + (key == 'annotations')]
                if not isinstance(entries, list) or not all(type(e) in kinds for e in entries):
                    raise ValueError(f'"{key}" is not a list of objects')
                if not entries and key != 'annotations':
                    raise ValueError(f'it lists no {key}')
        except (ValueError, RecursionError) as error:
            raise AnnotationError(
                f'{self.name} is not a COCO annotation file, a JSON object with "images", '
                f'"annotations" and "categories": {error}; it starts with {start!r}'
            ) from error
        self.entries = dict(image=content['images'], category=content['categories'])
        rows = [self._needed(e) if type(e) is dict else e for e in content.pop('annotations')]
        keys = *_KEPT, 'segmentation'
        self.columns: dict[str, Any] = (
            dict(zip(keys, zip(*rows))) if rows else dict.fromkeys(keys, ())
        )

    def _entry(self, pairs: list[tuple[str, Any]]) -> dict | tuple:
        """A JSON object; annotations become tuples, which take less memory."""
        entry = dict(pairs)
        if len(entry) < len(pairs) and 'images' in entry:
            raise ValueError('a key is repeated')
        is_annotation = 'bbox' in entry and 'image_id' in entry and 'category_id' in entry
        return self._needed(entry) if is_annotation else entry

    def _needed(self, ann: dict) -> tuple:
        return *map(ann.get, _KEPT), ann.get('segmentation') if self.keep_masks else None

    def _values(self, kind: str, key: str) -> Sequence:
        if kind == 'annotation':
            return self.columns[key]
        return [entry.get(key) for entry in self.entries[kind]]

    def _where(self, kind: str, index: int) -> str:
        """How messages call an entry."""
        key = self._values(kind, 'id')[index]
        name = f'{kind} {key!r}' if _is_id(key) else f'{kind} number {index + 1}'
        if kind != 'annotation':
            label = 'name' if kind == 'category' else self.file_key
            return f'{name} ({self.entries[kind][index].get(label)!r})'
        image = self.columns['image_id'][index]
        files = [i.get(self.file_key) for i in self.entries['image'] if i.get('id') == image]
        return f'{name} of image {short(image)} ({", ".join(map(repr, files)) or "unknown"})'

    # -----fields and ids-----
    def _check(self, kind: str, *keys: str) -> None:
        """Fields must hold what they should, and ids be unique."""
        for key in ('id', *keys):
            holds, wanted = _FIELDS[key]
            for index, value in enumerate(self._values(kind, key)):
                if not holds(value):
                    self.fail(
                        f'{self._where(kind, index)}: "{key}" is {short(value)}; '
                        f'it must be {wanted}'
                    )
        ids = self._values(kind, 'id')
        if len({type(key) is str for key in ids}) > 1:
            self.fail(f'some {kind} ids are text and some are numbers')
        if len(set(ids)) < len(ids):
            twice = [key for key, count in Counter(ids).items() if count > 1]
            same = [self._where(kind, i) for i, key in enumerate(ids) if key == twice[0]]
            self.fail(
                f'the {kind} id {twice[0]!r} stands twice: {same[0]}, {same[1]}; {kind} ids are '
                f'not unique ({len(twice)} of them repeat). Were files joined? Renumber them'
            )

    def _check_repeated_names(self) -> None:
        """Several images may have one file; of categories with one name, one may be in use."""
        if not self.evaluation:
            files = Counter(self._values('image', self.file_key))
            file, count = files.most_common(1)[0]
            if count > 1:
                self.warn(
                    f'images are listed more than once under other ids, such as {file}; '
                    f'{files.total()} images are {len(files)} files: were files joined?'
                )
        used, categories = set(self.columns['category_id']), self.entries['category']
        for name, count in Counter(self._values('category', 'name')).items():
            if count == 1:
                continue
            *others, key = sorted(
                (c['id'] for c in categories if c['name'] == name), key=used.__contains__
            )
            if used.intersection(others):
                self.fail(
                    f'the category name {name!r} stands twice, under the ids {[*others, key]}, and '
                    'both have annotations: give them different names or the same id'
                )
            self.warn(f'the category name {name!r} stands twice; the unused {others} is left out')
            categories = [c for c in categories if c['id'] not in others]
        self.entries['category'] = categories

    def _rows(self, kind: str) -> np.ndarray:
        """Index of the image or category of each annotation, (N,)."""
        ids, values = self._values(kind, 'id'), self.columns[f'{kind}_id']
        row_of = {key: row for row, key in enumerate(ids)}
        rows = np.array([row_of.get(value, -1) for value in values], int)
        if (rows < 0).any():
            index = int((rows < 0).argmax())
            alike = type(values[index]) is type(ids[0])
            self.fail(
                f'{self._where("annotation", index)}: "{kind}_id" is the unknown {kind} '
                f'{_typed(values[index])}; known are {", ".join(map(_typed, ids[:_SHOWN]))}'
                f'{"" if alike else ": write ids as numbers, or as text, in both places"}'
            )
        return rows

    # -----boxes-----
    def _check_format(self) -> None:
        """Refuse a file whose boxes are in another format."""
        valid = np.flatnonzero(np.isfinite(self.boxes[:, 0]))
        if not len(valid):
            return
        boxes, image, rows = self.boxes[valid], self.sizes[valid], self.image_rows[valid]
        start, size = boxes[:, :2], boxes[:, 2:]
        slack = np.maximum(2, 0.02 * image)
        too_far = (start + size > image + slack).any(1)
        num, share = int(too_far.sum()), too_far.mean()
        many = num >= min(3, len(boxes))
        corners = ((size > start) & (size <= image + slack) & (start >= -slack)).all(1)
        centres = ((start - size / 2 >= -slack) & (start + size / 2 <= image + slack)).all(1)
        swapped = (start + size <= image[:, ::-1] + slack[:, ::-1]).all(1)
        normalised = (boxes <= 1 + 1e-6).all(1) & (size > 0).all(1)
        # of files that were joined, only some may have another format
        such, tiny = np.isin(rows, rows[too_far]), np.isin(rows, rows[normalised])
        beyond = f'{num} of {len(boxes)} boxes reach beyond their image'
        for holds, which, guess in (
            (
                normalised.sum() >= 0.95 * max(tiny.sum(), min(3, len(boxes))) and image.min() > 4,
                normalised,
                f'{normalised.sum()} of {len(boxes)} boxes lie between 0 and 1: these look '
                'normalised to the size of the image',
            ),
            (
                many and (such & ~corners).sum() <= 0.02 * such.sum(),
                too_far,
                f'{beyond}: these look like corners [x1, y1, x2, y2]',
            ),
            (
                many and share >= 0.2 and centres.mean() >= 0.98,
                too_far,
                f'{beyond}: these look like [centre x, centre y, width, height]',
            ),
            (
                many and share >= 0.05 and swapped.mean() >= 0.98,
                too_far,
                f'{beyond}: these look like [top, left, height, width], or width and height of the '
                'images are swapped',
            ),
            (
                num >= 3 and share >= 0.5,
                too_far,
                f'{beyond}: were they drawn on images of another size?',
            ),
        ):
            if holds:
                index = valid[which.argmax()]
                self.fail(
                    f'"bbox" cannot be right; {guess} ({self._where("annotation", index)} has '
                    f'{self._box(index)}). Write [left, top, width, height] in pixels'
                )
        if len(boxes) >= 10 and image.min() > 100 and 90 < (start + size).max() <= 100:
            self.warn('all boxes lie in the upper left 100x100 pixels: are they in percent?')
        if num:
            self.warn(f'{beyond} by more than 2 px and 2 %; they are cut there')

    def _check_repeats(self, category_rows: np.ndarray) -> None:
        """Refuse a file of which many annotations are listed twice; COCO has a few."""
        # a number for image, category and box; equal by chance in one of 10^9 pairs of an image
        keys = self.boxes @ np.sqrt([2, 3, 5, 7]) + category_rows * math.pi
        _, first, index = np.unique(
            self.image_rows + keys % 1, return_index=True, return_inverse=True, equal_nan=False
        )
        num = len(keys) - len(first)
        if num >= 3 and num > 0.1 * len(keys):
            index = int((first[index] != np.arange(len(keys))).argmax())
            self.fail(
                f'{num} of {len(keys)} annotations repeat another, with the same image, category '
                f'and box, such as {self._where("annotation", index)}: were files joined? Remove '
                'the repeats'
            )

    def _check_boxes(self) -> None:
        """Note what is no box, or lies where none can be."""
        start, size = self.boxes[:, :2], self.boxes[:, 2:]
        for wrong, what in (
            (np.isnan(size), 'it must be four finite numbers, x, y, w, h'),
            ((start >= self.sizes) | (start + size <= 0), 'it lies outside of the image'),
            (size > 10 * self.sizes, 'it is far larger than the image'),
            (size == 0, 'it has no area'),
            (size < 0, 'it has a negative size; the format is [x, y, width, height], not corners'),
        ):
            for index in np.flatnonzero(wrong.any(1)).tolist():
                self.bad[index] = f'"bbox" is {self._box(index)}; {what}'

    def _box(self, index: int) -> str:
        return f'{short(self.columns["bbox"][index])} in an image of {self._size(index)}'

    def _size(self, index: int) -> str:
        return '{:.0f}x{:.0f}'.format(*self.sizes[index])

    def _areas(self) -> np.ndarray:
        """Areas in square pixels, (N,); evaluation leaves out what is too large for all ranges."""
        areas = np.array([area or math.nan for area in self.columns['area']], float)
        boxes = self.boxes[:, 2] * self.boxes[:, 3]
        too_large = areas > 1.1 * np.maximum(self.sizes.prod(1), boxes)
        if too_large.any():
            index = int(too_large.argmax())
            self.fail(
                f'{self._where("annotation", index)}: "area" is {self.columns["area"][index]} in '
                f'an image of {self._size(index)}. {too_large.sum()} of {len(areas)} areas are '
                'larger than image and box: write square pixels, or leave "area" out'
            )
        unlike = (areas > 1.5 * boxes + 10) | (areas < 0.005 * boxes)
        if unlike.sum() > 0.01 * len(areas):
            self.warn(
                f'"area" of {unlike.sum()} of {len(areas)} annotations is unlike that of the box, '
                f'such as of {self._where("annotation", int(unlike.argmax()))}: were images '
                'resized? AP of small, medium and large objects depends on it'
            )
        return np.where(np.isnan(areas), boxes, areas)

    def _check_masks(self) -> None:
        """Note annotations without a mask; take away polygons that are none."""
        masks, incomplete = list(self.columns['segmentation']), []
        for index, mask in enumerate(masks):
            image = self.entries['image'][self.image_rows[index]]
            masks[index] = _usable(mask, [image['height'], image['width']])
            if masks[index] is None:
                self.bad[index] = (
                    f'"segmentation" is {short(mask)}; as masks are asked for, it must be polygons '
                    '[[x, y, x, y, ...], ...] of at least three points, or run lengths of '
                    f'[height, width] = [{image["height"]}, {image["width"]}]'
                )
            elif len(masks[index]) < len(mask):
                incomplete.append(index)
        self.columns['segmentation'] = masks
        if incomplete:
            self.warn(
                f'polygons of {len(incomplete)} annotations are left out, as they have no three '
                f'points (six numbers), such as one of {self._where("annotation", incomplete[0])}'
            )

    def _rows_to_keep(self) -> np.ndarray:
        """All annotations but those that cannot be right, which are refused or listed."""
        num, bad = len(self.boxes), sorted(self.bad)
        if not bad:
            return np.arange(num)
        listed = [f'{self._where("annotation", i)}: {self.bad[i]}' for i in bad[:_SHOWN]]
        if self.bad_boxes == 'error' and len(bad) > TOLERATED_SHARE * num:
            self.fail(
                f'{listed[0]}. {len(bad)} of {num} annotations cannot be right. Mend them, or set '
                f'bad_boxes="drop" in the {"evaluator" if self.evaluation else "data set"} to '
                'leave them out'
            )
        if len(bad) > _SHOWN:
            listed.append(f'and {len(bad) - _SHOWN} more')
        kept = np.delete(np.arange(num), bad)
        if self.evaluation and self.bad_boxes == 'error' and not self.masks:
            kept = np.flatnonzero(np.isfinite(self.boxes[:, 0]))  # as official figures count them
        self.warn(
            f'{len(bad)} of {num} annotations cannot be right, {num - len(kept)} are left out: '
            f'{"; ".join(listed)}'
        )
        return kept


def _usable(mask: Any, size: list[int]) -> list | dict | None:
    """A mask without polygons that are none, if it is one for an image of (height, width)."""
    if isinstance(mask, list):
        return [points for points in mask if _is_polygon(points)] or None
    if not isinstance(mask, dict) or mask.get('size') != size:
        return None
    runs: Any = mask.get('counts')
    if isinstance(runs, str):
        x, _, width, _ = mask_utils.toBbox(mask)
        right = width > 0 and x + width <= size[1]
    else:
        right = isinstance(runs, list) and all(type(run) is int and run >= 0 for run in runs)
        right = right and sum(runs) == math.prod(size) and sum(runs[1::2]) > 0
    return dict(mask, size=size) if right else None


def _typed(value: Any) -> str:
    """An id as JSON has it, with quotes around text, and its type."""
    return f'{value!r} ({"text" if isinstance(value, str) else "number"})'
