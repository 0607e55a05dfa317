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
from typing import Any, NoReturn

import numpy as np
from mmengine.logging import print_log

from mmdet_centernet2.utils.errors import UserError

BAD_BOXES = ('error', 'drop')
#: This share of bad boxes is dropped with a warning rather than refused: two
#: of the 860,001 boxes of COCO train2017 have no height.
TOLERATED_SHARE = 1e-5
_SHOWN = 10  # entries listed in a message; the rest are counted
_BLOCK = 1 << 22  # characters read at a time
# a list of numbers, nested or not, and what must follow it
_NUMBERS = re.compile(
    r'"segmentation":\s*\[[\s\[]*[^\s\[\]"{}][^"{}]*\](?=\s*(?:,\s*"[^"]*"\s*:|\}))'
)
_NEEDED = ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'ignore')  # of annotations
_FLAGS = {None: False, '': False, 0: False, '0': False, 1: True, '1': True}


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
        keys = ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'ignore')
        rows = zip(
            range(1, len(self.areas) + 1),
            [self.images[row]['id'] for row in self.image_rows],
            [self.categories[row]['id'] for row in self.category_rows],
            self.boxes.tolist(),
            self.areas.tolist(),
            self.crowds.astype(int).tolist(),
            self.ignored.astype(int).tolist(),
        )
        annotations = [dict(zip(keys, row)) for row in rows]
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
            truth of an evaluation (then ``ignore`` marks a crowd, and the few
            bad boxes that :data:`TOLERATED_SHARE` allows stay, as the official
            figures count them); ``file_key``, the key of an image's file name;
            ``config_key``, what of the config takes ``bad_boxes``, for messages.

    Raises:
        AnnotationError: If the file is at fault.
        ValueError: If ``bad_boxes`` is unknown.
    """
    return _Reader(str(name or path), **options).read(path)


def read_annotations(path: str | Path, name: str | None = None, **options) -> dict:
    """As :func:`read_table`, but gives the content of a COCO file, without masks."""
    return read_table(path, name, **options).to_coco()


@dataclass
class _Reader:
    """One reading of one file; see :func:`read_table`."""

    name: str
    bad_boxes: str = 'error'
    masks: bool = False
    keep_masks: bool = False
    evaluation: bool = False
    file_key: str = 'file_name'
    config_key: str = 'the data set'

    def __post_init__(self) -> None:
        if self.bad_boxes not in BAD_BOXES:
            raise ValueError(f'bad_boxes must be one of {BAD_BOXES}, got {self.bad_boxes!r}')
        self.keep_masks |= self.masks
        # what is wrong, by the index of the annotation: some of `bad` is tolerated or dropped
        self.bad: dict[int, str] = {}
        self.faults: dict[int, str] = {}
        self.images: list[dict] = []
        self.categories: list[dict] = []
        # a row for each annotation
        self.ids: list = []
        self.image_ids: list = []
        self.category_ids: list = []
        self.numbers, self.areas = array('d'), array('d')
        self.flags: dict[str, list[bool]] = dict(iscrowd=[], ignore=[])
        self.segmentations: list = []

    def fail(self, what: str) -> NoReturn:
        raise AnnotationError(f'{self.name}: {what}')

    def warn(self, what: str) -> None:
        print_log(f'{self.name}: {what}', 'current', logging.WARNING)

    def read(self, path: str | Path) -> AnnotationTable:
        self._load(path)
        self._check_images()
        self._check_categories()
        self._check_ids('annotation', self.ids)
        category_rows = self._rows('category_id', self.category_ids, self.categories)
        self.image_rows = self._rows('image_id', self.image_ids, self.images)
        for index, what in self.faults.items():
            self.fail(f'{self._where(index)}: {what}')
        self.boxes = np.array(self.numbers).reshape(-1, 4)
        sizes = np.array([(image['width'], image['height']) for image in self.images], float)
        self.sizes = sizes[self.image_rows]
        self._check_format()
        self._check_places()
        if self.masks:
            self._check_masks()
        areas = np.array(self.areas)
        areas = np.where(np.isnan(areas), self.boxes[:, 2] * self.boxes[:, 3], areas)
        crowds, ignored = (np.array(self.flags[key], bool) for key in ('iscrowd', 'ignore'))
        if self.evaluation:
            crowds |= ignored
        kept = np.arange(len(areas))
        if self.bad and not self._bad_ones_stay():
            kept = np.delete(kept, list(self.bad))
        return AnnotationTable(
            self.images,
            self.categories,
            self.image_rows[kept],
            category_rows[kept],
            self.boxes[kept],
            areas[kept],
            crowds[kept],
            ignored[kept],
            [self.segmentations[row] for row in kept] if self.segmentations else [],
        )

    def _load(self, path: str | Path) -> None:
        try:
            content = json.loads(self._text(path), object_pairs_hook=self._entry)
            if type(content) is not dict:
                raise ValueError('it is something else')
            if content.get('annotations') is None:  # lists of images without labels
                content['annotations'] = []
            for key in ('images', 'categories', 'annotations'):
                if key not in content:
                    raise ValueError(f'it has no "{key}"')
                entries = content[key]
                if not isinstance(entries, list) or not all(
                    type(e) in (dict, tuple) for e in entries
                ):
                    raise ValueError(f'"{key}" is not a list of objects')
        except (ValueError, RecursionError) as error:
            raise AnnotationError(
                f'{self.name} is not a COCO annotation file, a JSON object with "images", '
                f'"annotations" and "categories": {error}'
            ) from error
        self.images, self.categories = content['images'], content['categories']
        for index, ann in enumerate(content['annotations']):
            self._add(index, *(self._needed(ann) if type(ann) is dict else ann))

    def _text(self, path: str | Path) -> str:
        """The file, without lists of numbers where no masks are kept."""
        with open(path, 'rb') as file:
            encoding = json.detect_encoding(file.read(4))
        with open(path, encoding=encoding, errors='surrogatepass', newline='') as file:
            blocks = iter(lambda: file.read(_BLOCK), '')
            if not self.keep_masks:  # one that two blocks share may stay
                blocks = (_NUMBERS.sub('"segmentation":[0]', block) for block in blocks)
            return ''.join(blocks)

    def _entry(self, pairs: list[tuple[str, Any]]) -> dict | tuple:
        """A JSON object; annotations become tuples, which take less memory."""
        entry = dict(pairs)
        if len(entry) < len(pairs) and 'images' in entry:
            raise ValueError('a key is repeated')
        return self._needed(entry) if 'image_id' in entry and 'bbox' in entry else entry

    def _needed(self, ann: dict) -> tuple:
        mask = ann.get('segmentation')
        return *map(ann.get, _NEEDED), mask if self.keep_masks else bool(mask)

    def _add(self, index: int, key, image_id, category_id, box, area, crowd, ignore, mask) -> None:
        """Take an annotation; note what is wrong with it."""
        self.ids.append(key)
        self.image_ids.append(image_id)
        self.category_ids.append(category_id)
        if type(box) is not list or len(box) != 4 or not all(map(_is_number, box)):
            self.bad[index] = f'"bbox" must be four finite numbers, x, y, w, h, got {box!r}'
            box = [math.nan] * 4
        self.numbers.extend(box)
        if area is None or (area == 0 and not mask):
            area = math.nan
        elif not _is_number(area) or area < 0:
            self.faults[index] = f'"area" is {area!r}; it must be square pixels, or left out'
            area = math.nan
        self.areas.append(area)
        for name, value in (('iscrowd', crowd), ('ignore', ignore)):
            try:
                self.flags[name].append(_FLAGS[value])
            except (KeyError, TypeError):
                self.faults[index] = f'"{name}" is {value!r}; it must be 0 or 1'
                self.flags[name].append(False)
        if self.keep_masks:
            self.segmentations.append(mask)

    # -----images, categories and ids-----
    def _check_images(self) -> None:
        if not self.images:
            self.fail('it lists no images')
        self._check_ids('image', [i.get('id') for i in self.images], self.images, self.file_key)
        for image in self.images:
            where, file = f'image {image["id"]!r}', image.get(self.file_key)
            if not (isinstance(file, str) and file) and not (
                self.evaluation and file in (None, '')
            ):
                self.fail(f'{where} has no "{self.file_key}" (found {file!r})')
            for key in ('height', 'width'):
                value: Any = image.get(key)
                if not _is_number(value) or value < 1 or value != int(value):
                    self.fail(
                        f'{where} ({file}): "{key}" is {value!r}; it must be a number of pixels'
                    )
                image[key] = int(value)
        files = Counter(image[self.file_key] for image in self.images if image.get(self.file_key))
        twice = [file for file, count in files.items() if count > 1]
        if twice:
            self.warn(
                f'{len(twice)} images are listed more than once under other ids, such as '
                f'{twice[0]}: were files joined?'
            )

    def _check_categories(self) -> None:
        if not self.categories:
            self.fail('it lists no categories')
        self._check_ids('category', [c.get('id') for c in self.categories], self.categories, 'name')
        for category in self.categories:
            if not isinstance(category.get('name'), str):
                self.fail(f'category {category["id"]!r} has no "name": {category}')
        names = Counter(c['name'] for c in self.categories)
        for name in [n for n, count in names.items() if count > 1]:
            used = {i for i in self.category_ids if _is_id(i)}
            same = [c for c in self.categories if c['name'] == name]
            # Roboflow's unused root category says so; else the last of them is the class
            same.sort(key=lambda c: (c['id'] in used, c.get('supercategory') != 'none'))
            if sum(c['id'] in used for c in same) > 1:
                self.fail(
                    f'the category name {name!r} stands twice, under the ids '
                    f'{[c["id"] for c in same]}, and both have annotations: give them different '
                    'names or the same id'
                )
            self.warn(
                f'the category name {name!r} stands twice; the unused '
                f'{[c["id"] for c in same[:-1]]} is left out'
            )
            self.categories = [c for c in self.categories if c not in same[:-1]]

    def _check_ids(
        self, kind: str, ids: list, entries: Sequence[dict] = (), label: str = ''
    ) -> None:
        """Ids must be there, of one kind, and unique."""
        for index, key in enumerate(ids):
            if not _is_id(key):
                named = f' ({entries[index].get(label)!r})' if entries else ''
                self.fail(f'{kind} number {index + 1}{named} has no usable "id" (found {key!r})')
        kinds = {type(key) is str: key for key in ids}
        if len(kinds) > 1:
            self.fail(
                f'some {kind} ids are text and some numbers, such as '
                f'{_typed(kinds[True])} and {_typed(kinds[False])}'
            )
        if len(set(ids)) < len(ids):
            twice = [key for key, count in Counter(ids).items() if count > 1]
            labels = [e.get(label) for e in entries if e['id'] == twice[0]]
            self.fail(
                f'the {kind} id {twice[0]!r} stands twice'
                f'{f" ({labels[0]}, {labels[1]})" if labels else ""}; {kind} ids are not unique '
                f'({len(twice)} of them repeat, such as {", ".join(map(repr, twice[:_SHOWN]))}). '
                'Were files joined? Renumber them'
            )

    def _rows(self, key: str, ids: list, entries: list[dict]) -> np.ndarray:
        """Index of the entry with each id, (N,)."""
        known = {entry['id']: row for row, entry in enumerate(entries)}
        try:
            return np.array([known[value] for value in ids], int)
        except (KeyError, TypeError):
            index, value = next(
                (i, v) for i, v in enumerate(ids) if not _is_id(v) or v not in known
            )
        some = ', '.join(_typed(v) for v in sorted(known, key=str)[:_SHOWN])
        hint = ''
        if _is_id(value) and str(value) in map(str, known):
            hint = '. Write the ids alike in both places, as numbers or as text'
        self.fail(
            f'annotation {self.ids[index]!r} of image {_typed(self.image_ids[index])}: "{key}" is '
            f'the unknown {key[:-3]} {_typed(value)}; known are {some}{hint}'
        )

    # -----boxes-----
    def _where(self, index: int) -> str:
        image = self.images[self.image_rows[index]]
        return (
            f'annotation {self.ids[index]!r} of image {image["id"]!r} ({image.get(self.file_key)})'
        )

    def _check_format(self) -> None:
        """Refuse a file whose boxes are in another format."""
        valid = np.flatnonzero(~np.isnan(self.boxes[:, 0]))
        if not len(valid):
            return
        boxes, image = self.boxes[valid], self.sizes[valid]
        start, size = boxes[:, :2], boxes[:, 2:]
        slack = np.maximum(2, 0.02 * image)
        too_far = (start + size > image + slack).any(1)
        num, share = int(too_far.sum()), too_far.mean()
        corners = ((size > start) & (size <= image + slack) & (start >= -slack)).all(1)
        centres = ((start - size / 2 >= -slack) & (start + size / 2 <= image + slack)).all(1)
        normalised = ((boxes <= 1 + 1e-6).all(1) & (size > 0).all(1)).mean()
        # of files that were joined, only some may have corners
        rows = self.image_rows[valid]
        such = np.isin(rows, rows[too_far])
        beyond = f'{num} of {len(boxes)} boxes reach beyond their image: '
        guesses = (
            (
                normalised >= 0.95 and image.min() > 4,
                'nearly all boxes lie between 0 and 1: these look normalised to the size of the '
                'image; write pixels',
            ),
            (
                num >= 3 and (such & ~corners).sum() <= 0.02 * such.sum(),
                f'{beyond}these look like corners [x1, y1, x2, y2]; write [x, y, width, height]',
            ),
            (
                num >= 3 and share >= 0.2 and centres.mean() >= 0.98,
                f'{beyond}these look like [centre x, centre y, width, height]; write [x, y, '
                'width, height] with the upper left corner',
            ),
            (num >= 3 and share >= 0.5, f'{beyond}were they drawn on images of another size?'),
        )
        index = valid[too_far.argmax()]
        for holds, guess in guesses:
            if holds:
                self.fail(
                    f'"bbox" cannot be right: {guess} ({self._where(index)} has '
                    f'{_box(self.boxes[index])} in an image of {_size(self.sizes[index])})'
                )
        if len(boxes) >= 10 and image.min() > 100 and 90 < (start + size).max() <= 100:
            self.warn('all boxes lie in the upper left 100x100 pixels: are they in percent?')
        if num:
            self.warn(
                f'{num} of {len(boxes)} boxes reach more than 2 px and 2 % beyond their image; '
                'they are cut there'
            )

    def _check_places(self) -> None:
        """Note boxes without size, or outside of their image."""
        start, size = self.boxes[:, :2], self.boxes[:, 2:]
        with np.errstate(invalid='ignore'):
            negative = np.any(size < 0, axis=1)
            empty = np.any(size == 0, axis=1)
            outside = ((start >= self.sizes) | (start + size <= 0)).any(1)
        for index in np.flatnonzero(negative | empty | outside).tolist():
            if negative[index]:
                what = 'has a negative size; the format is [x, y, width, height], not two corners'
            elif empty[index]:
                what = 'has no area'
            else:
                what = f'lies outside of the image ({_size(self.sizes[index])})'
            self.bad[index] = f'"bbox" {_box(self.boxes[index])} {what}'

    # -----masks-----
    def _check_masks(self) -> None:
        """Note annotations without a mask; take away polygons that are none."""
        incomplete = []
        for index, mask in enumerate(self.segmentations):
            if index in self.bad:
                continue
            polygons = list(filter(_is_polygon, mask)) if isinstance(mask, list) else []
            fault = self._fault_of_mask(mask, polygons, self.images[self.image_rows[index]])
            if fault:
                self.bad[index] = f'"segmentation" {fault}'
            elif isinstance(mask, list) and len(polygons) < len(mask):
                incomplete.append(index)
                self.segmentations[index] = polygons
        if incomplete:
            self.warn(
                f'polygons of {len(incomplete)} annotations are left out, as they have no three '
                f'points (six numbers), such as one of {self._where(incomplete[0])}'
            )

    @staticmethod
    def _fault_of_mask(mask: Any, polygons: list, image: dict) -> str | None:
        if not mask:
            return f'is {mask!r}, but masks are asked for'
        if isinstance(mask, dict):
            size, counts = [image['height'], image['width']], mask.get('counts')
            if mask.get('size') != size or not counts:
                return (
                    f'is a run-length mask of size {mask.get("size")}; the '
                    f'image needs [height, width] = {size}'
                )
            if isinstance(counts, list) and not (
                all(map(_is_number, counts)) and min(counts) >= 0 and sum(counts) == math.prod(size)
            ):
                return f'is a run-length mask with other counts than {math.prod(size)} pixels'
        elif not isinstance(mask, list) or not all(isinstance(part, list) for part in mask):
            return f'must be a list of polygons [[x, y, x, y, ...], ...], got {str(mask)[:40]}'
        elif not polygons:  # it would be drawn as a box, or not at all
            return f'has no polygon of at least three points (six numbers), got {str(mask)[:40]}'
        return None

    def _bad_ones_stay(self) -> bool:
        """Refuse, or list, what cannot be right; whether it is kept nevertheless."""
        listed = [f'{self._where(i)}: {what}' for i, what in list(self.bad.items())[:_SHOWN]]
        counted = f'{len(self.bad)} of {len(self.ids)} annotations'
        if self.bad_boxes == 'error' and len(self.bad) > TOLERATED_SHARE * len(self.ids):
            self.fail(
                f'{listed[0]}. {counted} cannot be right. Mend them, or set '
                f'bad_boxes="drop" in {self.config_key} to leave them out'
            )
        finite = bool(np.isfinite(self.boxes[list(self.bad)]).all())
        stay = self.evaluation and self.bad_boxes == 'error' and finite
        if len(self.bad) > len(listed):
            listed.append(f'and {len(self.bad) - len(listed)} more')
        verb = 'cannot be right' if stay else 'are left out'
        self.warn(f'{counted} {verb}: {"; ".join(listed)}')
        return stay


def _is_number(value: Any) -> bool:
    """Whether a value is finite and fits a float."""
    if value.__class__ is float:
        return math.isfinite(value)
    return value.__class__ is int and -1e300 < value < 1e300


def _is_polygon(points: Any) -> bool:
    try:
        finite = math.isfinite(sum(array('d', points)))
    except (TypeError, OverflowError):
        return False
    return finite and isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0


def _is_id(value: Any) -> bool:
    if value.__class__ is float:
        return value.is_integer()
    return value.__class__ in (int, str)


def _typed(value: Any) -> str:
    """A value as JSON has it, with quotes around text, and its type."""
    kind = {str: 'text', int: 'number', float: 'number'}.get(type(value))
    return f'{value!r} ({kind})' if kind else repr(value)


def _box(box: np.ndarray) -> str:
    return f'[{", ".join(f"{v:g}" for v in box)}]'


def _size(size: np.ndarray) -> str:
    return f'{size[0]:g}x{size[1]:g}'
