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


class StrictCocoMixin(CocoDataset):
    """Checks annotations and keeps every box, for COCO-format data sets.

    Nothing is lost in silence: what cannot be right is an error that names the
    annotation; boxes as small as they may be stay. Labels follow the names in
    ``metainfo``, in whatever order the file has its categories. An image whose
    size is not the one in the file is an error when it is first read. Masks are
    only kept if the pipeline loads them, or in testing.

    Args:
        bad_boxes: What to do with boxes that cannot be right (outside of the
            image, without area, not four numbers): 'error', or 'drop', which
            removes, counts and lists them.
        check_files: Whether to look for all images at the start, if they are
            on a local disk.
        *args, **kwargs: See the data set.

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
        gc.disable()
        try:
            super().full_init()
        finally:
            gc.enable()

    def load_data_list(self) -> list[dict]:
        """Read and check the annotation file; one entry for each image."""
        steps = [s for s in self.pipeline.transforms if hasattr(s, 'with_mask')]
        with get_local_path(self.ann_file, backend_args=self.backend_args) as path:
            table = read_table(
                path,
                self.ann_file,
                bad_boxes=self.bad_boxes,
                masks=any(step.with_mask for step in steps),
                keep_masks=self.test_mode or not steps,
                file_key=self.FILE_KEY,
            )
        self.cat_ids = self._ids_of_classes(table)
        self.cat2label = {cat: i for i, cat in enumerate(self.cat_ids)}
        labels = table.labels(self.cat_ids)
        self._report(table, labels)
        data_list = []
        for image in table.images:
            file = image[self.FILE_KEY].removeprefix('http://images.cocodataset.org/')
            info = dict(image, img_id=image['id'], file_name=file)
            data_list.append(self.parse_data_info(dict(raw_img_info=info, raw_ann_info=[])))
        rows = np.flatnonzero((labels >= 0) & ~table.ignored)
        corners = table.boxes[rows]
        corners[:, 2:] += corners[:, :2]
        crowds = table.crowds[rows].astype(int)
        columns = rows, table.image_rows[rows], labels[rows], crowds, corners
        for row, index, label, crowd, box in zip(*(column.tolist() for column in columns)):
            instance = dict(bbox=box, bbox_label=label, ignore_flag=crowd)
            if table.masks and table.masks[row]:
                instance['mask'] = table.masks[row]
            data_list[index]['instances'].append(instance)
        if self.check_files:
            self._check_files([info['img_path'] for info in data_list])
        return data_list

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
        others = Counter(table.categories[row]['name'] for row in table.category_rows[labels < 0])
        self._counts = (
            f'{len(table.images)} images, {total} annotations, of these {crowds} crowds, '
            f'{int(table.ignored.sum())} marked "ignore", {others.total()} of categories that are '
            f'not among the classes, {usable} usable objects'
        )
        alike = {_plain_name(name): name for name in self.metainfo['classes']}
        for name in others:
            if _plain_name(name) in alike:
                raise AnnotationError(
                    f'{self.ann_file}: {others[name]} annotations of the category {name!r} would '
                    f'be lost, as the class is {alike[_plain_name(name)]!r}: give both one name, '
                    'or list both among the classes'
                )
        if usable == 0 and not self.test_mode and (self.filter_cfg or {}).get('filter_empty_gt'):
            raise AnnotationError(f'{self.ann_file}: no object to train on: {self._counts}')
        for holds, what in (
            (usable == 0 and total, f'no usable object: {self._counts}'),
            (
                crowds > 0.2 * total,
                f'{crowds} of {total} annotations are crowds ("iscrowd": 1), which are not trained '
                'on; some tools mark every mask so: then set iscrowd to 0',
            ),
            (
                others,
                f'{others.total()} annotations are left out, as their categories are not among the '
                f'classes: {dict(others.most_common(_SHOWN))}',
            ),
        ):
            if holds:
                print_log(f'{self.ann_file}: {what}', 'current', logging.WARNING)

    def _check_files(self, paths: list[str]) -> None:
        """Look for all images, one listing for each folder."""
        prefix = self.data_prefix.get('img') or ''
        if self.backend_args or '://' in prefix:
            return
        folders = {prefix, *map(osp.dirname, paths)}
        there = {
            osp.join(folder, name)
            for folder in folders
            if osp.isdir(folder or '.')
            for name in os.listdir(folder or '.')
        }
        missing = [path for path in paths if path not in there]
        if not missing:
            return
        path = missing[0]
        like = [other for other in there if _plain(other) == _plain(path)]
        in_root = osp.join(self.data_root or '', osp.relpath(path, prefix or '.'))
        hints = (
            ('://' in path, 'File names are addresses: download the images, write their names'),
            ('\\' in path, 'File names hold backslashes, as of Windows: replace them by "/"'),
            (
                osp.isfile(in_root),
                f'File names hold the folder already: set data_prefix=dict(img="") below '
                f'data_root={self.data_root!r}',
            ),
            (like, f'There is {"".join(like[:1])!r}: is it this one?'),
            (
                True,
                f'Check data_root and data_prefix (now {self.data_root!r} and '
                f'{dict(self.data_prefix)}) against "{self.FILE_KEY}" in the annotation file',
            ),
        )
        hint = next(hint for holds, hint in hints if holds)
        raise AnnotationError(
            f'{self.ann_file}: {len(missing)} of {len(paths)} images do not exist, such as '
            f'{", ".join(map(repr, missing[:_SHOWN]))}. {hint}'
        )


def _plain(path: str) -> str:
    """A file name without what tools and systems change: folder, case, ending, escapes, ..."""
    return _plain_name(Path(unquote(path)).stem)


def _plain_name(name: str) -> str:
    """The name of a class without letter case and spaces around it."""
    return normalize('NFC', name.strip()).casefold()


class _CheckImageSize:
    """Step after reading: is the image as large as the annotations say?"""

    def __init__(self, ann_file: str) -> None:
        self.ann_file = ann_file

    def __call__(self, results: dict) -> dict:
        height, width = results['ori_shape'][:2]
        if (height, width) != (results['height'], results['width']):
            turned = (width, height) == (results['height'], results['width'])
            why = 'rotated, or has an EXIF orientation that the labelling tool did not apply'
            raise AnnotationError(
                f'{results["img_path"]} is {width}x{height} pixels, but {self.ann_file} says '
                f'{results["width"]}x{results["height"]}: it was '
                f'{why if turned else "resized after labelling"}. Its boxes would be wrong: label '
                'the image as it is, or mend the file'
            )
        return results


def check_class_names(classes: Any) -> None:
    """Check ``metainfo['classes']``, different names or a file with a name in each line.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(classes, str) and osp.isfile(classes):
        return
    if not isinstance(classes, (list, tuple)):
        found = repr(classes)
        if isinstance(classes, str):
            found = f'the text {classes!r}: write classes=({classes!r}, ) with a comma'
        raise ValueError(f'metainfo.classes must be a list of names, got {found}')
    twice = [name for name, count in Counter(map(str, classes)).items() if count > 1]
    wrong = [name for name in classes if not isinstance(name, str)]
    if wrong or twice:
        raise ValueError(
            f'metainfo.classes must be different names, but has {(wrong or twice)[0]!r}'
            f'{"" if wrong else " twice"}: {list(classes)}'
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
