"""COCO-format data sets that are read as the original reads them."""

from __future__ import annotations

import logging
import os
import os.path as osp
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from .annotation_file import AnnotationError, ids_of_classes, read_annotations
from .palette import distinct_palette

_SHOWN = 5  # files listed in a message; the rest are counted


class StrictCocoMixin(CocoDataset):
    """Checks annotations and keeps every box, for COCO-format data sets.

    mmdet drops small boxes, unknown categories and boxes without area in
    silence. Here nothing is lost unseen: what cannot be right is an error
    that names the annotation; boxes as small as they may be stay. Labels are
    mapped by the names in ``metainfo``, in whatever order the file has its
    categories. Images are kept if they have an object that is not a crowd.
    An image whose size is not the one in the file is an error when it is
    first read.

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

    def load_data_list(self) -> list[dict]:
        """Read and check the annotation file; one entry for each image.

        Raises:
            AnnotationError: If the file is at fault, an image is missing, or
                there is nothing to train on.
        """
        with get_local_path(self.ann_file, backend_args=self.backend_args) as path:
            content = read_annotations(
                path,
                self.ann_file,
                bad_boxes=self.bad_boxes,
                masks=any(getattr(step, 'with_mask', False) for step in self.pipeline.transforms),
                file_key=self.FILE_KEY,
            )
        self.cat_ids = self._ids_of_classes(content)
        self.cat2label = {cat: i for i, cat in enumerate(self.cat_ids)}
        by_image = defaultdict(list)
        for ann in content['annotations']:
            by_image[ann['image_id']].append(ann)
        data_list = [
            self.parse_data_info(dict(raw_img_info=image, raw_ann_info=by_image[image['id']]))
            for image in content['images']
        ]
        self._report(content)
        if self.check_files:
            self._check_files(data_list)
        return data_list

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """An image and all its instances; see mmdet's ``CocoDataset``."""
        image = raw_data_info['raw_img_info']
        image = dict(image, img_id=image['id'], file_name=self.file_of(image))
        data_info = super().parse_data_info(dict(raw_img_info=image, raw_ann_info=[]))
        for ann in raw_data_info['raw_ann_info']:
            if ann['ignore'] or ann['category_id'] not in self.cat2label:
                continue
            x, y, width, height = ann['bbox']
            instance = dict(
                bbox=[x, y, x + width, y + height],
                bbox_label=self.cat2label[ann['category_id']],
                ignore_flag=ann['iscrowd'],
            )
            if ann.get('segmentation'):
                instance['mask'] = ann['segmentation']
            data_info['instances'].append(instance)
        return data_info

    def file_of(self, image: dict) -> str:
        """Path of an image below ``data_prefix['img']``."""
        return image[self.FILE_KEY]

    def filter_data(self) -> list[dict]:
        """Keep images with an object that is not a crowd, if so asked.

        Raises:
            AnnotationError: If no image is left.
        """
        options = {} if self.test_mode else self.filter_cfg or {}
        smallest = options.get('min_size', 0)
        kept = [
            info
            for info in self.data_list
            if min(info['width'], info['height']) >= smallest
            and (
                not options.get('filter_empty_gt', False)
                or any(not inst['ignore_flag'] for inst in info['instances'])
            )
        ]
        if not kept:
            raise AnnotationError(
                f'{self.ann_file}: no image is left by filter_cfg={options}: {self._counts}'
            )
        return kept

    def _ids_of_classes(self, content: dict) -> list:
        """Category ids in the order of the classes, which must be there."""
        wanted = list(self.metainfo['classes'])
        names = [c['name'] for c in content['categories']]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise AnnotationError(
                f'{self.ann_file}: no category named {missing[:5]} '
                f'({len(missing)} of {len(wanted)} classes are missing); the '
                f'file has {names[:10]}; set metainfo=dict(classes=(...)) of '
                'the data set to its names'
            )
        return ids_of_classes(content, wanted)

    def _report(self, content: dict) -> None:
        """Say what is not trained on, and fail if that is everything."""
        annotations = content['annotations']
        others = Counter(
            a['category_id'] for a in annotations if a['category_id'] not in self.cat2label
        )
        usable = sum(
            not a['iscrowd'] and not a['ignore'] and a['category_id'] in self.cat2label
            for a in annotations
        )
        self._counts = (
            f'{len(content["images"])} images, {len(annotations)} annotations,'
            f' of these {sum(a["iscrowd"] for a in annotations)} crowds, '
            f'{sum(a["ignore"] for a in annotations)} marked "ignore", '
            f'{sum(others.values())} of categories that are not among the '
            f'classes, {usable} usable objects'
        )
        if (
            usable == 0
            and not self.test_mode
            and (self.filter_cfg or {}).get('filter_empty_gt', False)
        ):
            raise AnnotationError(f'{self.ann_file}: no object to train on: {self._counts}')
        if usable == 0 and annotations:
            self._warn(f'no usable object: {self._counts}')
        if others:
            names = {c['id']: c['name'] for c in content['categories']}
            most = ', '.join(f'{names[i]!r} ({n})' for i, n in others.most_common(_SHOWN))
            self._warn(
                f'{sum(others.values())} annotations are left out, as '
                f'their categories are not among the classes: {most}'
            )

    def _check_files(self, data_list: list[dict]) -> None:
        """Look for all images, one listing for each folder."""
        if self.backend_args:
            return
        paths = [info['img_path'] for info in data_list if '://' not in info['img_path']]
        there: dict[str, set] = {}
        missing = []
        for path in paths:
            folder, name = osp.split(path)
            if folder not in there:
                there[folder] = (
                    set(os.listdir(folder or '.')) if osp.isdir(folder or '.') else set()
                )
            if name not in there[folder]:
                missing.append(path)
        if missing:
            raise AnnotationError(
                f'{self.ann_file}: {len(missing)} of {len(paths)} images do '
                f'not exist, such as {", ".join(missing[:_SHOWN])}. '
                f'{self._why_missing(missing[0])}'
            )

    def _why_missing(self, path: str) -> str:
        name = osp.relpath(path, self.data_prefix.get('img') or '.')
        if '\\' in path:
            return (
                'The file names hold backslashes, as Windows writes '
                'them: replace them by "/" in the annotation file'
            )
        if osp.exists(osp.join(self.data_root or '', name)):
            return (
                'The file names hold the folder already: set data_prefix='
                f'dict(img="") below data_root={self.data_root!r}'
            )
        folder = Path(path).parent
        like = [p.name for p in folder.glob('*') if p.stem.lower() == Path(path).stem.lower()]
        if like:
            return f'There is {like[0]!r} in {folder}'
        return (
            'Check data_root and data_prefix (now '
            f'{self.data_root!r} and {dict(self.data_prefix)}) against '
            f'"{self.FILE_KEY}" in the annotation file'
        )

    def _warn(self, what: str) -> None:
        print_log(f'{self.ann_file}: {what}', 'current', logging.WARNING)


class _CheckImageSize:
    """Step after reading: is the image as large as the annotations say?"""

    def __init__(self, ann_file: str) -> None:
        self.ann_file = ann_file

    def __call__(self, results: dict) -> dict:
        found = tuple(results['ori_shape'][:2])
        wanted = (results.get('height'), results.get('width'))
        if None not in wanted and found != wanted:
            turned = found == wanted[::-1]
            raise AnnotationError(
                f'{results["img_path"]} is {found[1]}x{found[0]} pixels, but '
                f'{self.ann_file} says {wanted[1]}x{wanted[0]}: '
                + (
                    'it was rotated, or has an EXIF orientation that the '
                    'labelling tool did not apply'
                    if turned
                    else 'it was resized after labelling'
                )
                + '. Its boxes would be wrong: label the image as it is, or '
                'mend the file'
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
    names = list(classes)
    wrong = [n for n in names if not isinstance(n, str)]
    twice = [n for n, count in Counter(map(str, names)).items() if count > 1]
    if wrong or twice:
        raise ValueError(
            'metainfo.classes must be different names, but has '
            f'{(wrong or twice)[0]!r}{"" if wrong else " twice"}: {names}'
        )


@DATASETS.register_module()
class CenterNet2CocoDataset(StrictCocoMixin, CocoDataset):
    """``CocoDataset`` that loses nothing; see :class:`StrictCocoMixin`."""
