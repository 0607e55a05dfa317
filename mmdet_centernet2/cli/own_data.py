"""A folder of labelled images, as COCO-format files: what ``centernet2 train`` starts from."""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml
from PIL import ExifTags, Image

from mmdet_centernet2.datasets.annotation_file import read_annotations
from mmdet_centernet2.runtime.images import ENDINGS
from mmdet_centernet2.utils.errors import PreflightError

#: The class names of YOLO data that have no data.yaml, as labelImg and Label Studio write them.
_NAMES_FILE = 'classes.txt'
#: Endings of label files, and what those hold that are meant.
_MARKS = {
    'COCO': (('.json',), (rb'"images"', rb'"annotations"', rb'"categories"')),
    'YOLO': (('.yaml', '.yml'), (rb'(?m)^.?names.?:', rb'(?m)^.?train.?:')),
    'Pascal VOC': (('.xml',), (rb'<annotation',)),
}
#: Names of folders and files that say which part they hold.
_PARTS = {
    'train': ('train', 'training', 'train2017'),
    'val': ('val', 'valid', 'validation', 'val2017'),
    'test': ('test', 'testing', 'test2017'),
}


@dataclass
class Part:
    """Images and labels to train on, or to test with."""

    content: dict[str, Any]  # of a COCO file
    img_dir: Path
    ann_file: Path | None = None  # None: not written yet

    @property
    def images(self) -> int:
        return len(self.content['images'])

    @property
    def boxes(self) -> int:
        return len(self.content['annotations'])

    def select(self, ids: set) -> Part:
        """Some images, with their annotations."""
        images = [image for image in self.content['images'] if image['id'] in ids]
        annotations = [ann for ann in self.content['annotations'] if ann['image_id'] in ids]
        return Part(dict(self.content, images=images, annotations=annotations), self.img_dir)


@dataclass(frozen=True)
class OwnData:
    """What :func:`find_data` found."""

    kind: str  # 'COCO', 'YOLO' or 'Pascal VOC'
    train: Part
    val: Part
    classes: tuple[str, ...]  # names of those that have boxes
    extents: np.ndarray  # widths and heights (n, 2) of the training boxes, in pixels
    longest: float  # median longer edge of the training images, in pixels
    notes: list[str]  # how it was read, a line for each thing that a user should know

    @property
    def sides(self) -> np.ndarray:
        """Square roots of the areas (n, ) of the training boxes, in pixels."""
        return np.sqrt(self.extents.prod(1))


def find_data(data: str | Path, out_dir: str | Path, seed: int = 0) -> OwnData:
    """Find out what a folder or file holds, and make it a COCO data set.

    Labels in COCO format and a split by images, if the data have none, are written to ``out_dir``.

    Raises:
        PreflightError: If not exactly one kind of labels is found, or a file is at fault.
        AnnotationError: If a COCO file is.
    """
    data = Path(data).expanduser().resolve()
    if not data.exists():
        raise PreflightError(f'{data} does not exist.')
    kind, sources = _look(data)
    notes: list[str] = []
    parts = _KINDS[kind](data if data.is_dir() else data.parent, sources, notes)
    if 'train' not in parts:
        raise PreflightError(f'{data} has no part for training: found {", ".join(parts)}.')
    if 'val' not in parts and 'test' in parts:
        parts['val'] = parts.pop('test')
        notes.append('the test part is used for validation, there is no other')
    elif parts.pop('test', None):
        notes.append('the test part is left alone')
    classes = _classes([part.content for part in parts.values()], notes)
    if 'val' not in parts:
        whole, chosen = parts['train'], split_images(parts['train'].content, seed)
        parts = dict(train=whole.select(chosen[0]), val=whole.select(chosen[1]))
        notes.append(
            f'no validation part: {parts["val"].images} of {whole.images} images, chosen by '
            f'class with seed {seed}, are held out'
        )
    for name, part in parts.items():
        if not part.boxes:
            raise PreflightError(f'{data}: the labels of the {name} part hold no box.')
        if part.ann_file is None:
            part.ann_file = Path(out_dir, 'data', f'{name}.json')
            part.ann_file.parent.mkdir(parents=True, exist_ok=True)
            part.ann_file.write_text(json.dumps(part.content))
        labelled = {ann['image_id'] for ann in part.content['annotations']}
        bare = [i['file_name'] for i in part.content['images'] if i['id'] not in labelled]
        if bare:
            notes.append(f'{name}: {len(bare)} images hold no object, such as {bare[0]}')
    content = parts['train'].content
    boxes = np.array([ann['bbox'] for ann in content['annotations']], dtype=float)
    extents = boxes.reshape(-1, 4)[:, 2:].clip(0)
    longest = float(np.median([max(i['width'], i['height']) for i in content['images']]))
    return OwnData(kind, **parts, classes=classes, extents=extents, longest=longest, notes=notes)


# --- finding ---------------------------------------------------------------


def _look(data: Path) -> tuple[str, list[Path]]:
    """Kind of the data, and its label files."""
    paths = [data] if data.is_file() else sorted(p for p in data.rglob('*') if p.is_file())
    found = {
        kind: [p for p in paths if p.suffix in endings and _holds(p, marks)]
        for kind, (endings, marks) in _MARKS.items()
    }
    found['Pascal VOC'] = sorted({path.parent for path in found['Pascal VOC']})
    if not any(found.values()) and (data / _NAMES_FILE).is_file():
        found['YOLO'] = [data / _NAMES_FILE]
    kinds = [kind for kind, sources in found.items() if sources]
    if len(kinds) == 1:
        return kinds[0], found[kinds[0]]
    if kinds:
        there = '; '.join(f'{kind}: {found[kind][0].relative_to(data)}' for kind in kinds)
        raise PreflightError(f'{data} holds labels of several kinds ({there}). Give one of them.')
    raise PreflightError(
        f'{data} holds no labels: no COCO file (.json with images, annotations, categories), no '
        f'Pascal VOC file (.xml), and for YOLO labels (.txt) neither a {_NAMES_FILE} with a name '
        'in each line nor a data.yaml: "train: images/train", "val: images/val" and '
        '"names: [cat, dog]" in three lines.'
    )


def _holds(path: Path, marks: Iterable[bytes]) -> bool:
    """Whether all regular expressions match; faster than to parse a large file."""
    content = path.read_bytes()
    return all(re.search(mark, content) for mark in marks)


# --- reading ---------------------------------------------------------------

Box = tuple[str, float, float, float, float]  # class, x1, y1, x2, y2 in pixels
Labels = tuple[str, int, int, list[Box]]  # file name, width and height of an image, and its boxes


def _read_coco(root: Path, files: list[Path], notes: list[str]) -> dict[str, Part]:
    parts = {}
    for part, path in _by_part(files, root, 'COCO files').items():
        content = read_annotations(path)
        parts[part] = Part(content, _image_folder(path, content, root, part), path)
    return parts


def _by_part(paths: list[Path], root: Path, what: str) -> dict[str, Path]:
    """Files or folders by the part that their names say; one alone is for training."""
    parts: dict[str, Path] = {}
    for path in paths:
        words = set(re.split(r'[/_.\s-]', path.relative_to(root).as_posix().lower()))
        said = [part for part, names in _PARTS.items() if words & set(names)]
        part = 'train' if len(paths) == 1 else said[0] if len(said) == 1 else None
        if part is None or part in parts:
            names = ', '.join(str(each.relative_to(root)) for each in paths)
            raise PreflightError(
                f'{root} holds several {what}, whose names do not say which is for training and '
                f'which for validation: {names}. Put "train" and "val" into the names, or give '
                'one: a fifth of its images is held out.'
            )
        parts[part] = path
    return parts


def _image_folder(path: Path, content: dict, root: Path, part: str) -> Path:
    """The folder that the file names of a COCO file are relative to."""
    names = [image['file_name'] for image in content['images'][:50]]
    below = ['', 'images', 'img', 'JPEGImages', *_PARTS[part]]
    below += [each for name in _PARTS[part] for each in (f'images/{name}', f'{name}/images')]
    folders = [base / name for base in (path.parent, root, path.parent.parent) for name in below]
    counts = {folder: sum((folder / name).is_file() for name in names) for folder in folders}
    best = max(counts, key=counts.__getitem__)
    if names and not counts[best]:
        raise PreflightError(
            f'{path}: its image {names[0]!r} is in none of the usual places, such as '
            f'{path.parent}, {root / "images"} or {root / _PARTS[part][0]}.'
        )
    return best


def _read_yolo(root: Path, files: list[Path], notes: list[str]) -> dict[str, Part]:
    if len(files) > 1:
        raise PreflightError(
            f'{root} holds several YOLO files: {", ".join(map(str, files))}. Give one.'
        )
    (file,) = files
    try:
        text = file.read_text(encoding='utf-8-sig')
        if file.name == _NAMES_FILE:
            names = [line.strip() for line in text.splitlines() if line.strip()]
            settings = dict(train='images' if (file.parent / 'images').is_dir() else '.')
        else:
            settings = yaml.safe_load(text)
            names = settings['names']
    except (UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise PreflightError(f'{file} cannot be read ({" ".join(str(error).split())}).') from error
    if not isinstance(names, (list, dict)):
        raise PreflightError(f'{file}: names must be a list, such as "names: [cat, dog]": {names}.')
    names = names if isinstance(names, dict) else dict(enumerate(names))
    parts: dict[str, Part] = {}
    for part, key in (('train', 'train'), ('val', 'val'), ('val', 'valid'), ('test', 'test')):
        wanted = settings.get(key)
        if not wanted or part in parts:
            continue
        if not isinstance(wanted, str) or wanted.endswith('.txt'):
            raise PreflightError(f'{file}: {key!r} must be one folder of images: {wanted!r}.')
        # ultralytics' "path" starts elsewhere, Roboflow's paths lead one folder too far up
        tried = Path(str(settings.get('path', '.')), wanted), wanted, wanted.removeprefix('../')
        folders = [file.parent / each for each in tried]
        folder = next((each for each in folders if each.is_dir()), None)
        if folder is not None:
            content = _to_coco(_yolo_labels(folder, names), map(str, names.values()), notes)
            parts[part] = Part(content, folder)
        elif part == 'train':
            raise PreflightError(f'{file}: its {key!r} folder {folders[0]} does not exist.')
        else:
            notes.append(f'{key}: {wanted} does not exist, left out')
    return parts


def _yolo_labels(folder: Path, names: dict) -> Iterator[Labels]:
    """``labels/`` beside ``images/`` holds the text files, or the same folder."""
    labels = Path('/labels'.join(str(folder).rsplit('/images', 1)))
    labels = labels if labels.is_dir() else folder
    for image in sorted(p for p in folder.rglob('*') if p.suffix.lower() in ENDINGS):
        try:
            with Image.open(image) as file:
                turned = file.getexif().get(ExifTags.Base.Orientation, 1) > 4
                width, height = file.size[::-1] if turned else file.size
        except Exception as error:  # each decoder fails in its own way
            raise PreflightError(f'{image}: cannot be read ({error}).') from error
        path = (labels / image.relative_to(folder)).with_suffix('.txt')
        lines = path.read_text().splitlines() if path.is_file() else []
        boxes = []
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    boxes.append(_yolo_box(line, names, width, height))
                except ValueError as error:
                    raise PreflightError(f'{path}, line {number}: {line!r} ({error}).') from error
        yield image.relative_to(folder).as_posix(), width, height, boxes


def _yolo_box(line: str, names: dict, width: int, height: int) -> Box:
    """A box, or the box around a polygon: class, then shares of the image."""
    label, *values = map(float, line.split())
    if label not in names:
        raise ValueError(f'class {label:g}, there are {len(names)}: {short(names)}')
    if len(values) == 4:
        x, y, w, h = values
        xs, ys = [x - w / 2, x + w / 2], [y - h / 2, y + h / 2]
    elif len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[::2], values[1::2]
    else:
        raise ValueError(f'{len(values)} numbers after the class, neither a box nor a polygon')
    return str(names[label]), min(xs) * width, min(ys) * height, max(xs) * width, max(ys) * height


def _read_voc(root: Path, folders: list[Path], notes: list[str]) -> dict[str, Part]:
    parts: dict[str, Part] = {}
    for part, folder in _by_part(folders, root, 'folders of Pascal VOC files').items():
        labels = [_voc_labels(path) for path in sorted(folder.glob('*.xml'))]
        names = sorted({box[0] for *_, boxes in labels for box in boxes})
        content = _to_coco(labels, names, notes)
        whole = Part(content, _image_folder(folder / '-', content, folder.parent, part))
        parts[part] = whole
        lists = {name: folder.parent / f'ImageSets/Main/{name}.txt' for name in ('train', 'val')}
        if all(path.is_file() for path in lists.values()):
            for name, path in lists.items():
                stems = {line.split()[0] for line in path.read_text().splitlines() if line.strip()}
                ids = {i['id'] for i in content['images'] if Path(i['file_name']).stem in stems}
                parts[name] = whole.select(ids)
            notes.append('split as ImageSets/Main says')
    return parts


def _voc_labels(path: Path) -> Labels:
    try:
        root = ElementTree.parse(path).getroot()
        file = root.findtext('filename', '')
        width, height = (int(root.findtext(f'size/{key}', '')) for key in ('width', 'height'))
        ends = [f'bndbox/{end}' for end in ('xmin', 'ymin', 'xmax', 'ymax')]
        boxes = [
            (each.findtext('name', ''), *(float(each.findtext(end, '')) for end in ends))
            for each in root.iterfind('object')
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise PreflightError(
            f'{path} is no file of Pascal VOC with a size and boxes ({error}).'
        ) from error
    return file, width, height, boxes


_KINDS = {'COCO': _read_coco, 'YOLO': _read_yolo, 'Pascal VOC': _read_voc}


def _to_coco(labels: Iterable[Labels], names: Iterable[str], notes: list[str]) -> dict[str, Any]:
    """The content of a COCO file; a box that is listed twice counts once."""
    ids = {name: number for number, name in enumerate(names)}
    images, annotations, repeats = [], [], 0
    for number, (name, width, height, boxes) in enumerate(labels):
        images.append(dict(id=number, file_name=name, width=width, height=height))
        repeats += len(boxes) - len(set(boxes))
        for label, x1, y1, x2, y2 in dict.fromkeys(boxes):
            ann = dict(id=len(annotations) + 1, image_id=number, category_id=ids[label], iscrowd=0)
            w, h = x2 - x1, y2 - y1
            annotations.append(ann | dict(bbox=[x1, y1, w, h], area=w * h))
    if repeats:
        notes.append(f'{repeats} boxes that stand twice in an image are left out')
    categories = [dict(id=number, name=name) for name, number in ids.items()]
    return dict(images=images, annotations=annotations, categories=categories)


# --- classes and split ---


def _classes(contents: Iterable[dict], notes: list[str]) -> tuple[str, ...]:
    """Names of the classes that have boxes, in the order of their ids."""
    names: Counter[str] = Counter()
    for content in contents:
        counts = Counter(ann['category_id'] for ann in content['annotations'])
        for each in sorted(content['categories'], key=lambda c: str(c['id']).zfill(9)):
            names[str(each['name'])] += counts[each['id']]
    empty = [name for name, count in names.items() if not count]
    if empty:
        notes.append(f'classes without a box are left out: {", ".join(empty)}')
    return tuple(name for name, count in names.items() if count)


def split_images(content: dict, seed: int, share: float = 0.2) -> tuple[set, set]:
    """Split the content of a COCO file by images, with each class in both parts.

    The rarest class comes first; each class gives ``share`` of its images to
    validation, at least one, and keeps at least one for training. Returns
    image ids of both parts.
    """
    ids = sorted((image['id'] for image in content['images']), key=str)
    if len(ids) < 2:
        raise PreflightError(f'{len(ids)} images cannot be split; two are the least.')
    random.Random(seed).shuffle(ids)
    classes: dict[Any, set] = {image: set() for image in ids}
    for ann in content['annotations']:
        classes[ann['image_id']].add(ann['category_id'])
    having = defaultdict(list)
    for image, found in classes.items():
        if not found:
            found.add(None)  # without an object: a class of its own
        for each in found:
            having[each].append(image)
    val: set = set()
    held: Counter = Counter()
    for each, images in sorted(having.items(), key=lambda item: len(item[1])):
        wanted = max(round(share * len(images)), 1)
        for image in images:
            spare = all(held[c] < len(having[c]) - 1 for c in classes[image])
            if held[each] < wanted and image not in val and spare:
                val.add(image)
                held.update(classes[image])
    val = val or {ids[0]}  # each class may have one image
    return set(ids) - val, val
