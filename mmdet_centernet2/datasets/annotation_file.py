"""Reading COCO-format annotation files as labelling tools really write them.

What has one meaning is read (missing ``area``, ids from 0, an unused root
category); what cannot be right is refused before anything is trained on it.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from mmdet.datasets.api_wrappers import COCO
from mmengine.logging import print_log

from mmdet_centernet2.utils.errors import UserError

BAD_BOXES = ('error', 'drop')
#: This share of bad boxes is dropped with a warning rather than refused: two
#: of the 860,001 boxes of COCO train2017 have no height.
TOLERATED_SHARE = 1e-5
_SHOWN = 10  # entries listed in a message; the rest are counted


class AnnotationError(UserError, ValueError):
    """An annotation file that cannot be trained on or tested with."""


def read_annotations(path: str | Path, name: str | None = None, **options) -> dict:
    """Read, check and complete an annotation file.

    Args:
        path: A COCO- or LVIS-format JSON file.
        name: How messages call the file; ``path`` by default.
        **options: ``bad_boxes`` ('error' refuses boxes that cannot be right,
            'drop' removes, counts and lists them); ``masks``, whether
            ``segmentation`` is needed; ``evaluation``, whether the content is
            the ground truth of an evaluation (then ``ignore`` marks a crowd,
            and the few bad boxes that :data:`TOLERATED_SHARE` allows stay, as
            the official figures count them); ``file_key``, the key of an
            image's file name; ``config_key``, what of the config takes
            ``bad_boxes``, for messages.

    Returns:
        ``images``, ``annotations`` and ``categories``. Each annotation has an
        ``id`` (1, 2, ... in the order of the file, since pycocotools takes 0
        for "no match"), ``bbox`` (x, y, width, height in pixels), ``area``
        (square pixels; width times height where it was missing), ``iscrowd``
        and ``ignore`` (0 or 1).

    Raises:
        AnnotationError: If the file is at fault.
        ValueError: If ``bad_boxes`` is unknown.
    """
    return _Reader(str(name or path), **options).read(path)


class CheckedCOCO(COCO):
    """mmdet's ``COCO`` of a checked file, the ground truth of an evaluation.

    Args:
        path: The annotation file.
        **kwargs: See :func:`read_annotations`.
    """

    def __init__(self, path: str, **kwargs) -> None:
        super().__init__()
        self.dataset = read_annotations(path, evaluation=True, **kwargs)
        with redirect_stdout(None):
            self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def get_cat_ids(self, cat_names=(), sup_names=(), cat_ids=()) -> list:
        """Category ids in the order of ``cat_names``, not of the file."""
        if not cat_names:
            return super().get_cat_ids([], sup_names, cat_ids)
        return ids_of_classes(self.dataset, cat_names)


def ids_of_classes(content: dict, classes: Iterable[str]) -> list:
    """Category ids of the class names that a file has, in their order."""
    ids = {c['name']: c['id'] for c in content['categories']}
    return [ids[name] for name in classes if name in ids]


def has_objects(content: dict) -> bool:
    """Whether a file holds an object that is not a crowd."""
    return any(not a['iscrowd'] and not a['ignore'] for a in content['annotations'])


@dataclass
class _Reader:
    """One reading of one file; see :func:`read_annotations`."""

    name: str
    bad_boxes: str = 'error'
    masks: bool = False
    evaluation: bool = False
    file_key: str = 'file_name'
    config_key: str = 'the data set'
    # what is wrong, by the index of the annotation
    bad: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.bad_boxes not in BAD_BOXES:
            raise ValueError(f'bad_boxes must be one of {BAD_BOXES}, got {self.bad_boxes!r}')

    def fail(self, what: str) -> NoReturn:
        raise AnnotationError(f'{self.name}: {what}')

    def warn(self, what: str) -> None:
        print_log(f'{self.name}: {what}', 'current', logging.WARNING)

    def read(self, path: str | Path) -> dict:
        content = self._load(path)
        self._check_images(content['images'])
        self._check_categories(content)
        annotations = content['annotations']
        self._check_references(annotations)
        self.boxes = np.array(
            [self._box(i, a) for i, a in enumerate(annotations)], dtype=float
        ).reshape(-1, 4)
        # width and height of each annotation's image
        self.sizes = np.array(
            [[self.images[a['image_id']][key] for key in ('width', 'height')] for a in annotations],
            dtype=float,
        ).reshape(-1, 2)
        self._check_format(annotations)
        self._check_places(annotations)
        for index, ann in enumerate(annotations):
            self._complete(index, ann)
        if self.bad:
            content['annotations'] = self._without_bad(annotations)
        for number, ann in enumerate(content['annotations'], 1):
            ann['id'] = number
        return content

    def _load(self, path: str | Path) -> dict:
        what = (
            f'{self.name} is not a COCO annotation file, a JSON object '
            'with "images", "annotations" and "categories": '
        )
        try:
            content = json.loads(Path(path).read_bytes())
        except (ValueError, RecursionError) as error:
            raise AnnotationError(f'{what}{type(error).__name__}: {error}') from error
        if isinstance(content, dict):
            # lists of images without labels come without annotations
            content['annotations'] = content.get('annotations') or []
        for key in ('images', 'annotations', 'categories'):
            entries = content.get(key) if isinstance(content, dict) else None
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                raise AnnotationError(f'{what}"{key}" is not a list of objects')
        return content

    # -----images and categories-----
    def _check_images(self, images: list[dict]) -> None:
        if not images:
            self.fail('it lists no images')
        self.images = self._by_id('image', images, self.file_key)
        for image in images:
            where, file = f'image {image["id"]!r}', image.get(self.file_key)
            if not isinstance(file, str) and (file is not None or not self.evaluation):
                self.fail(f'{where} has no "{self.file_key}" (found {file!r})')
            for key in ('height', 'width'):
                if key not in image:
                    self.fail(f'{where} has no "{key}"')
                value = image[key]
                if not _is_number(value) or value < 1 or value != int(value):
                    self.fail(
                        f'{where} ({file}): "{key}" is {value!r}; it must be a number of pixels'
                    )
                image[key] = int(value)
        files = Counter(str(image[self.file_key]) for image in images if image.get(self.file_key))
        twice = [file for file, count in files.items() if count > 1]
        if twice:
            self.warn(
                f'{len(twice)} images are listed more than once under '
                f'other ids, such as {twice[0]}: were files joined?'
            )

    def _check_categories(self, content: dict) -> None:
        categories = content['categories']
        self.categories = self._by_id('category', categories, 'name')
        for category in categories:
            if not isinstance(category.get('name'), str):
                self.fail(
                    f'category {category["id"]!r} has no "name" (found {category.get("name")!r})'
                )
        names = Counter(c['name'] for c in categories)
        used = {
            a.get('category_id') for a in content['annotations'] if _is_id(a.get('category_id'))
        }
        for name in [n for n, count in names.items() if count > 1]:
            same = [c for c in categories if c['name'] == name]
            # Roboflow's unused root category says so; else the last of them
            # is the class
            same.sort(key=lambda c: (c['id'] in used, c.get('supercategory') != 'none'))
            if sum(c['id'] in used for c in same) > 1:
                self.fail(
                    f'the category name {name!r} stands twice, under the ids '
                    f'{[c["id"] for c in same]}, and both have annotations: '
                    'give them different names or the same id'
                )
            self.warn(
                f'the category name {name!r} stands twice; the unused '
                f'{[c["id"] for c in same[:-1]]} is left out'
            )
            content['categories'] = [c for c in content['categories'] if c not in same[:-1]]

    def _by_id(self, kind: str, entries: list[dict], label: str) -> dict:
        """Entries by id; ids must be there, of one kind, and unique."""
        found: dict = {}
        kinds: dict[bool, Any] = {}
        for index, entry in enumerate(entries):
            key = entry.get('id')
            if not _is_id(key):
                self.fail(
                    f'{kind} number {index + 1} ({entry.get(label)!r}) '
                    f'has no usable "id" (found {key!r})'
                )
            kinds.setdefault(isinstance(key, str), key)
            if key in found:
                labels = f' ({found[key].get(label)}, {entry.get(label)})'
                counts = Counter(e.get('id') for e in entries if _is_id(e.get('id')))
                ids = [i for i, count in counts.items() if count > 1]
                self.fail(
                    f'the {kind} id {key!r} stands twice'
                    f'{"" if label == "id" else labels}; {kind} ids are not '
                    f'unique ({len(ids)} of them repeat, such as '
                    f'{", ".join(map(repr, ids[:_SHOWN]))}). Were files '
                    'joined? Renumber them'
                )
            found[key] = entry
        if len(kinds) > 1:
            self.fail(
                f'some {kind} ids are text and some numbers, such as '
                f'{_typed(kinds[True])} and {_typed(kinds[False])}'
            )
        return found

    def _check_references(self, annotations: list[dict]) -> None:
        self._by_id('annotation', annotations, 'id')
        references = (('category_id', self.categories), ('image_id', self.images))
        for ann in annotations:
            for key, known in references:
                value = ann.get(key)
                if _is_id(value) and value in known:
                    continue
                some = sorted(known, key=str)[:_SHOWN]
                text = (
                    f'annotation {ann["id"]!r} of image '
                    f'{_typed(ann.get("image_id"))}: "{key}" is the '
                    f'unknown {key[:-3]} {_typed(value)}; known are '
                    f'{", ".join(map(_typed, some))}'
                )
                if _is_id(value) and str(value) in map(str, known):
                    text += '. Write the ids alike in both places, as numbers or as text'
                self.fail(text)

    # -----boxes-----
    def _where(self, ann: dict) -> str:
        image = self.images[ann['image_id']]
        return f'annotation {ann["id"]!r} of image {image["id"]!r} ({image.get(self.file_key)})'

    def _box(self, index: int, ann: dict) -> list[float]:
        """The box's four numbers; NaN where it has not got them."""
        box = ann.get('bbox')
        if not isinstance(box, list) or len(box) != 4:
            self.bad[index] = f'"bbox" must be [x, y, width, height], got {box!r}'
        elif not all(_is_number(v) for v in box):
            self.bad[index] = f'"bbox" holds {box!r}; all four must be finite numbers'
        else:
            return box
        return [math.nan] * 4

    def _check_format(self, annotations: list[dict]) -> None:
        """Refuse a file whose boxes are in another format."""
        valid = ~np.isnan(self.boxes[:, 0])
        if not valid.any():
            return
        boxes, image = self.boxes[valid], self.sizes[valid]
        start, size = boxes[:, :2], boxes[:, 2:]
        slack = np.maximum(2, 0.02 * image)
        too_far = (start + size > image + slack).any(1)
        num, share = int(too_far.sum()), too_far.mean()
        inside = (start >= -slack).all(1)
        as_corners = ((size > start) & (size <= image + slack)).all(1)
        as_centres = ((start - size / 2 >= -slack) & (start + size / 2 <= image + slack)).all(1)
        normalised = (boxes <= 1 + 1e-6).all(1) & (size > 0).all(1)
        beyond = f'{num} of {len(boxes)} boxes reach beyond their image: '
        if normalised.mean() >= 0.95 and image.min() > 4:
            guess = (
                'nearly all boxes lie between 0 and 1: these look '
                'normalised to the size of the image; write pixels'
            )
        elif num >= 3 and share >= 0.2 and (as_corners & inside).mean() >= 0.98:
            guess = f'{beyond}these look like corners [x1, y1, x2, y2]; write [x, y, width, height]'
        elif num >= 3 and share >= 0.2 and as_centres.mean() >= 0.98:
            guess = (
                f'{beyond}these look like [centre x, centre y, width, '
                'height]; write [x, y, width, height] with the upper '
                'left corner'
            )
        elif num >= 3 and share >= 0.5:
            guess = f'{beyond}were they drawn on images of another size?'
        else:
            if num:
                self.warn(
                    f'{num} of {len(boxes)} boxes reach more than '
                    '2 px and 2 % beyond their image; they are cut '
                    'there'
                )
            return
        index = int(np.flatnonzero(valid)[too_far.argmax()])
        width, height = self.sizes[index].astype(int)
        self.fail(
            f'"bbox" cannot be right: {guess} '
            f'({self._where(annotations[index])} has '
            f'{annotations[index]["bbox"]} in an image of '
            f'{width}x{height})'
        )

    def _check_places(self, annotations: list[dict]) -> None:
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
                width, height = self.sizes[index].astype(int)
                what = f'lies outside of the image ({width}x{height})'
            self.bad[index] = f'"bbox" {annotations[index]["bbox"]!r} {what}'

    # -----the rest of an annotation-----
    def _complete(self, index: int, ann: dict) -> None:
        """Give an annotation the values that it may lack."""
        for key in ('iscrowd', 'ignore'):
            value = ann.get(key) or 0
            if isinstance(value, str) and value.strip() in ('0', '1'):
                value = int(value)
            if not isinstance(value, (int, float)) or value not in (0, 1):
                self.fail(f'{self._where(ann)}: "{key}" is {value!r}; it must be 0 or 1')
            ann[key] = int(value)
        if self.evaluation and ann['ignore']:
            ann['iscrowd'] = 1  # pycocotools looks at nothing else
        area = ann.get('area')
        if area is None or (area == 0 and not ann.get('segmentation')):
            ann['area'] = float(self.boxes[index, 2] * self.boxes[index, 3])
        elif not _is_number(area) or area < 0:
            self.fail(
                f'{self._where(ann)}: "area" is {area!r}; it must be a '
                'number of square pixels, or left out'
            )
        if self.masks and index not in self.bad:
            problem = self._problem_of_mask(ann)
            if problem:
                self.bad[index] = f'"segmentation" {problem}'

    def _problem_of_mask(self, ann: dict) -> str | None:
        mask, image = ann.get('segmentation'), self.images[ann['image_id']]
        if not mask:
            return f'is {mask!r}, but masks are asked for'
        if isinstance(mask, dict):
            size = [image['height'], image['width']]
            if mask.get('size') == size and mask.get('counts'):
                return None
            return (
                f'is a run-length mask of size {mask.get("size")}; the '
                f'image needs [height, width] = {size}'
            )
        if not isinstance(mask, list) or not all(isinstance(polygon, list) for polygon in mask):
            return f'must be a list of polygons [[x, y, x, y, ...], ...], got {str(mask)[:40]}'
        # what is no polygon would be drawn as a box, or not at all
        ann['segmentation'] = [
            p for p in mask if len(p) >= 6 and len(p) % 2 == 0 and all(_is_number(v) for v in p)
        ]
        if ann['segmentation']:
            return None
        return f'has no polygon of at least three points (six numbers), got {str(mask)[:40]}'

    def _without_bad(self, annotations: list[dict]) -> list[dict]:
        listed = [
            f'{self._where(annotations[i])}: {what}' for i, what in list(self.bad.items())[:_SHOWN]
        ]
        counted = f'{len(self.bad)} of {len(annotations)} annotations'
        if self.bad_boxes == 'error' and len(self.bad) > TOLERATED_SHARE * len(annotations):
            self.fail(
                f'{listed[0]}. {counted} cannot be right. Mend them, or set '
                f'bad_boxes="drop" in {self.config_key} to leave them out'
            )
        stay = (
            self.evaluation
            and self.bad_boxes == 'error'
            and np.isfinite(self.boxes[list(self.bad)]).all()
        )
        if len(self.bad) > len(listed):
            listed.append(f'and {len(self.bad) - len(listed)} more')
        verb = 'cannot be right' if stay else 'are left out'
        self.warn(f'{counted} {verb}: {"; ".join(listed)}')
        if stay:
            return annotations
        return [a for i, a in enumerate(annotations) if i not in self.bad]


def _is_number(value: Any) -> bool:
    """Whether a value is finite and fits a float."""
    if value.__class__ is float:
        return math.isfinite(value)
    return value.__class__ is int and -1e300 < value < 1e300


def _is_id(value: Any) -> bool:
    if value.__class__ is float:
        return value.is_integer()
    return value.__class__ in (int, str)


def _typed(value: Any) -> str:
    """A value as JSON has it, with quotes around text, and its type."""
    kind = {str: 'text', int: 'number', float: 'number'}.get(type(value))
    return f'{value!r} ({kind})' if kind else repr(value)
