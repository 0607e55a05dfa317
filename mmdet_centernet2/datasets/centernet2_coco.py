"""COCO-format data sets that are read as the original reads them."""

from __future__ import annotations

import gc
import logging
import os
import os.path as osp
from collections import Counter
from pathlib import Path
from typing import Any
from unicodedata import normalize
from urllib.parse import unquote

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset, Objects365V1Dataset
from mmdet.registry import DATASETS
from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from .annotation_file import AnnotationError, AnnotationTable, read_table
from .palette import distinct_palette

_SHOWN = 5  # files listed in a message; the rest are counted
#: A larger share of crowds, which are not trained on, is worth a warning.
_MANY_CROWDS = 0.2


class StrictCocoMixin(CocoDataset):
    """Checks annotations and keeps every box, for COCO-format data sets.

    mmdet drops small boxes, unknown categories and boxes without area in
    silence. Here nothing is lost unseen: what cannot be right is an error
    that names the annotation; boxes as small as they may be stay. Labels are
    mapped by the names in ``metainfo``, in whatever order the file has its
    categories. Images are kept if they have an object that is not a crowd.
    An image whose size is not the one in the file is an error when it is
    first read. Masks are only kept if the pipeline loads them, or in testing.

    Args:
        *args: See the data set.
        bad_boxes: What to do with boxes that cannot be right (outside of the
            image, without area, not four numbers): 'error', or 'drop', which
            removes, counts and lists them.
        check_files: Whether to look for all images at the start, if they are
            on a local disk.
        **kwargs: See the data set.

    Raises:
        ValueError: If ``bad_boxes`` is unknown or the classes are no list.
        AnnotationError: If the annotation file is at fault, an image is
            missing, or there is nothing to train on.
    """

    #: Key of an image's file name in the annotation file.
    FILE_KEY = 'file_name'

    def __init__(self, *args, bad_boxes: str = 'error', check_files: bool = True, **kwargs) -> None:
        self.bad_boxes = bad_boxes
        self.check_files = check_files
        super().__init__(*args, **kwargs)
        # the first step that knows the size of the image
        for index, step in reversed([*enumerate(self.pipeline.transforms)]):
            if isinstance(step, LoadImageFromFile):
                self.pipeline.transforms.insert(index + 1, _CheckImageSize(self.ann_file))

    @classmethod
    def _load_metainfo(cls, metainfo: dict | None = None) -> dict:
        """Classes, and a palette with a colour for each of them."""
        given = metainfo or {}
        check_class_names(given.get('classes', ()))
        meta = super()._load_metainfo(metainfo)
        count = len(meta.get('classes', ()))
        # another class list does not keep the colours of mmdet's
        own = 'palette' in given or 'classes' not in given
        if not own or len(meta.get('palette') or ()) != count:
            meta['palette'] = distinct_palette(count)
        return meta

    def full_init(self) -> None:
        """Read the annotations. Nothing of them is garbage, so none is looked for."""
        collects = gc.isenabled()
        gc.disable()
        try:
            super().full_init()
        finally:
            if collects:
                gc.enable()

    def load_data_list(self) -> list[dict]:
        """Read and check the annotation file; one entry for each image."""
        steps = [s for s in self.pipeline.transforms if hasattr(s, 'with_mask')]
        masks = any(step.with_mask for step in steps)
        with get_local_path(self.ann_file, backend_args=self.backend_args) as path:
            table = read_table(
                path,
                self.ann_file,
                bad_boxes=self.bad_boxes,
                masks=masks,
                keep_masks=self.test_mode or not steps,
                file_key=self.FILE_KEY,
            )
        self.cat_ids = self._ids_of_classes(table)
        self.cat2label = {cat: i for i, cat in enumerate(self.cat_ids)}
        labels = table.labels(self.cat_ids)
        self._report(table, labels)
        data_list = [self._parse_image(image) for image in table.images]
        rows = np.flatnonzero((labels >= 0) & ~table.ignored)
        corners = table.boxes[rows]
        corners[:, 2:] += corners[:, :2]
        columns = table.image_rows, labels, table.crowds.astype(int)
        for row, image, label, crowd, box in zip(
            rows.tolist(), *(column[rows].tolist() for column in columns), corners.tolist()
        ):
            instance = dict(bbox=box, bbox_label=label, ignore_flag=crowd)
            if table.masks and table.masks[row]:
                instance['mask'] = table.masks[row]
            data_list[image]['instances'].append(instance)
        if self.check_files:
            self._check_files(data_list)
        return data_list

    def _parse_image(self, image: dict) -> dict:
        """mmdet's entry of an image, without instances."""
        image = dict(image, img_id=image['id'], file_name=self.file_of(image))
        return self.parse_data_info(dict(raw_img_info=image, raw_ann_info=[]))

    def file_of(self, image: dict) -> str:
        """Path of an image below ``data_prefix['img']``."""
        return image[self.FILE_KEY]

    def filter_data(self) -> list[dict]:
        """Keep images with an object that is not a crowd, if so asked."""
        options = {} if self.test_mode else self.filter_cfg or {}
        smallest = options.get('min_size', 0)
        kept = [i for i in self.data_list if min(i['width'], i['height']) >= smallest]
        if options.get('filter_empty_gt', False):
            kept = [i for i in kept if not all(inst['ignore_flag'] for inst in i['instances'])]
        if not kept:
            raise AnnotationError(
                f'{self.ann_file}: no image is left by filter_cfg={options}: {self._counts}'
            )
        return kept

    def _ids_of_classes(self, table: AnnotationTable) -> list:
        """Category ids in the order of the classes, which must be there."""
        wanted = list(self.metainfo['classes'])
        names = [c['name'] for c in table.categories]
        missing = [name for name in wanted if name not in names]
        if missing or not wanted:
            raise AnnotationError(
                f'{self.ann_file}: no category named {missing[:5]} ({len(missing)} of '
                f'{len(wanted)} classes are missing); the file has {names[:10]}; set '
                'metainfo=dict(classes=(...)) of the data set to its names'
            )
        return table.ids_of_classes(wanted)

    def _report(self, table: AnnotationTable, labels: np.ndarray) -> None:
        """Say what is not trained on, and fail if that is everything."""
        total, crowds = len(labels), int(table.crowds.sum())
        usable = int(((labels >= 0) & ~table.crowds & ~table.ignored).sum())
        others = Counter(table.category_rows[labels < 0].tolist())
        self._counts = (
            f'{len(table.images)} images, {total} annotations, of these {crowds} crowds, '
            f'{int(table.ignored.sum())} marked "ignore", {others.total()} of categories that are '
            f'not among the classes, {usable} usable objects'
        )
        trains = not self.test_mode and (self.filter_cfg or {}).get('filter_empty_gt', False)
        if usable == 0 and trains:
            raise AnnotationError(f'{self.ann_file}: no object to train on: {self._counts}')
        if usable == 0 and total:
            self._warn(f'no usable object: {self._counts}')
        elif crowds > _MANY_CROWDS * total:
            self._warn(
                f'{crowds} of {total} annotations are crowds ("iscrowd": 1), which are not '
                'trained on; some tools mark every mask so: then set iscrowd to 0'
            )
        if others:
            most = ', '.join(
                f'{table.categories[row]["name"]!r} ({n})' for row, n in others.most_common(_SHOWN)
            )
            self._warn(
                f'{others.total()} annotations are left out, as their categories are not among '
                f'the classes: {most}'
            )

    def _check_files(self, data_list: list[dict]) -> None:
        """Look for all images, one listing for each folder."""
        if self.backend_args or '://' in (self.data_prefix.get('img') or ''):
            return
        paths = [info['img_path'] for info in data_list]
        folders = {osp.dirname(path) for path in paths}
        there = {
            osp.join(folder, name)
            for folder in folders
            if osp.isdir(folder or '.')
            for name in os.listdir(folder or '.')
        }
        missing = [path for path in paths if path not in there]
        if missing:
            raise AnnotationError(
                f'{self.ann_file}: {len(missing)} of {len(paths)} images do not exist, such as '
                f'{", ".join(missing[:_SHOWN])}. {self._why_missing(missing[0])}'
            )

    def _why_missing(self, path: str) -> str:
        prefix = self.data_prefix.get('img') or ''
        name = osp.relpath(path, prefix or '.')
        folder = Path(path).parent
        like = [p.name for p in folder.glob('*') if _plain(p.name) == _plain(Path(path).name)]
        only_name = osp.join(prefix, osp.basename(path))
        if '://' in path:
            return 'The file names are addresses: download the images and write their file names'
        if '\\' in path:
            return 'The file names hold backslashes, as Windows writes them: replace them by "/"'
        if osp.exists(osp.join(self.data_root or '', name)):
            return (
                'The file names hold the folder already: set data_prefix='
                f'dict(img="") below data_root={self.data_root!r}'
            )
        if like:
            return f'There is {like[0]!r} in {folder}'
        if osp.exists(only_name):
            return f'There is {only_name}: leave the folder out of the file names'
        return (
            f'Check data_root and data_prefix (now {self.data_root!r} and '
            f'{dict(self.data_prefix)}) against "{self.FILE_KEY}" in the annotation file'
        )

    def _warn(self, what: str) -> None:
        print_log(f'{self.ann_file}: {what}', 'current', logging.WARNING)


def _plain(name: str) -> str:
    """A file name without what tools and systems change: case, ending, escapes, ..."""
    return normalize('NFC', Path(unquote(name).strip()).stem).casefold()


class _CheckImageSize:
    """Step after reading: is the image as large as the annotations say?"""

    def __init__(self, ann_file: str) -> None:
        self.ann_file = ann_file

    def __call__(self, results: dict) -> dict:
        found = tuple(results['ori_shape'][:2])
        wanted = (results.get('height'), results.get('width'))
        if None not in wanted and found != wanted:
            why = 'it was resized after labelling'
            if found == wanted[::-1]:
                why = (
                    'it was rotated, or has an EXIF orientation that the labelling tool did not '
                    'apply'
                )
            raise AnnotationError(
                f'{results["img_path"]} is {found[1]}x{found[0]} pixels, but {self.ann_file} says '
                f'{wanted[1]}x{wanted[0]}: {why}. Its boxes would be wrong: label the image as it '
                'is, or mend the file'
            )
        return results


def check_class_names(classes: Any) -> None:
    """Check ``metainfo['classes']``.

    Args:
        classes: Different names, or a file with a name in each line.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(classes, str):
        if not osp.isfile(classes):
            raise ValueError(
                f'metainfo.classes is the text {classes!r}, not a list: write '
                f'classes=({classes!r}, ) with a comma'
            )
        return
    if not isinstance(classes, (list, tuple)):
        raise ValueError(f'metainfo.classes must be a list of names, got {classes!r}')
    wrong = [name for name in classes if not isinstance(name, str)]
    twice = [name for name, count in Counter(map(str, classes)).items() if count > 1]
    if wrong or twice:
        raise ValueError(
            'metainfo.classes must be different names, but has '
            f'{(wrong or twice)[0]!r}{"" if wrong else " twice"}: {list(classes)}'
        )


@DATASETS.register_module()
class CenterNet2CocoDataset(StrictCocoMixin, CocoDataset):
    """``CocoDataset`` that loses nothing; see :class:`StrictCocoMixin`."""


@DATASETS.register_module()
class CenterNet2Objects365Dataset(StrictCocoMixin, Objects365V1Dataset):
    """Objects365 v1; see :class:`StrictCocoMixin`.

    365 classes; names and order are mmdet's, with the trailing space in
    ``'tissue '``. The two published files list their categories in different
    orders; labels follow the names.
    """


@DATASETS.register_module()
class NuImagesDataset(StrictCocoMixin, CocoDataset):
    """nuImages as mmdet3d converts it to the COCO format; see :class:`StrictCocoMixin`.

    The ten foreground classes, with boxes and run-length masks.
    """

    METAINFO = {
        'classes': (
            *('car', 'truck', 'trailer', 'bus', 'construction_vehicle'),
            *('bicycle', 'motorcycle', 'pedestrian', 'traffic_cone', 'barrier'),
        ),
        'palette': [
            *((31, 119, 180), (255, 127, 14), (148, 103, 189), (44, 160, 44), (140, 86, 75)),
            *((214, 39, 40), (227, 119, 194), (23, 190, 207), (255, 187, 40), (127, 127, 127)),
        ],
    }
