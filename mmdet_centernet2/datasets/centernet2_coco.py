"""COCO-format data sets that are read as the original reads them."""
import json
import math
from typing import List

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.logging import print_log

ZERO_AREA_POLICIES = ('error', 'ignore')


class AnnotationError(ValueError):
    """An annotation file that cannot be trained on or tested with."""


class StrictCocoMixin:
    """Checks annotations and keeps every box, for COCO-format data sets.

    mmdet drops small boxes, unknown categories and boxes without area in
    silence. Here nothing is lost unseen: what cannot be right is an error
    that names the annotation; boxes as small as they may be stay (Q41).
    Images are kept if they have one object that is not a crowd.

    Args:
        *args: See the data set.
        zero_area (str): What to do with boxes of no width or height:
            'error', or 'ignore', which counts them, says so once, and leaves
            them to ``FilterAnnotations`` in the pipeline. Defaults to
            'error'.
        **kwargs: See the data set.

    Raises:
        ValueError: If ``zero_area`` is unknown.
        AnnotationError: If the annotation file is at fault.

    Source: spec §6.1, §6.5, Q41.
    """

    def __init__(self, *args, zero_area: str = 'error', **kwargs) -> None:
        if zero_area not in ZERO_AREA_POLICIES:
            raise ValueError(f'zero_area must be one of {ZERO_AREA_POLICIES},'
                             f' got {zero_area!r}')
        self.zero_area = zero_area
        self._num_zero_area = 0
        self._categories_checked = False
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> List[dict]:
        """Read and check the annotation file.

        Returns:
            list[dict]: One entry for each image.

        Raises:
            AnnotationError: If the file is not one.
        """
        try:
            data_list = super().load_data_list()
        except (KeyError, AssertionError, json.JSONDecodeError) as error:
            raise AnnotationError(
                f'{self.ann_file} is not a COCO annotation file, a JSON '
                'object with "images", "annotations" and "categories": '
                f'{type(error).__name__}: {error}') from error
        if self._num_zero_area:
            print_log(
                f'{self.ann_file}: {self._num_zero_area} boxes without area '
                'are left out of training (zero_area="ignore")',
                logger='current')
        return data_list

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Parse one image; see mmdet's ``CocoDataset``.

        Args:
            raw_data_info (dict): ``raw_img_info`` and ``raw_ann_info``.

        Returns:
            dict: Image, and all its valid instances.

        Raises:
            AnnotationError: If an annotation is at fault.
        """
        self._check_file_once()
        img_info = raw_data_info['raw_img_info']
        for key in ('file_name', 'height', 'width'):
            if key not in img_info:
                self._fail(f'image {img_info["id"]} has no "{key}"')
        data_info = super().parse_data_info(
            dict(raw_img_info=img_info, raw_ann_info=[]))
        instances = (self._parse_instance(ann, img_info)
                     for ann in raw_data_info['raw_ann_info'])
        data_info['instances'] = [i for i in instances if i is not None]
        return data_info

    def filter_data(self) -> List[dict]:
        """Keep images with an object that is not a crowd, if so asked."""
        if self.test_mode or not (self.filter_cfg
                                  or {}).get('filter_empty_gt', False):
            return self.data_list
        return [
            info for info in self.data_list
            if any(not inst['ignore_flag'] for inst in info['instances'])
        ]

    def _parse_instance(self, ann: dict, img_info: dict) -> dict:
        """Instance of one annotation; None for another subset's class."""
        if ann.get('ignore', False):
            return None
        where = (f'annotation {ann.get("id")} of image {img_info["id"]} '
                 f'({img_info["file_name"]})')
        box = self._check_box(ann, where)
        label = self.cat2label.get(ann['category_id'])
        if label is None:
            return None
        instance = dict(
            bbox=box,
            bbox_label=label,
            ignore_flag=int(bool(ann.get('iscrowd', False))))
        if ann.get('segmentation'):
            instance['mask'] = ann['segmentation']
        return instance

    def _check_box(self, ann: dict, where: str) -> List[float]:
        """Corners (x1, y1, x2, y2) in pixels of an annotation's box."""
        box = ann.get('bbox')
        if not isinstance(box, (list, tuple)) or len(box) != 4:
            self._fail(f'{where}: "bbox" must be [x, y, width, height], '
                       f'got {box!r}')
        if not all(
                isinstance(v, (int, float)) and math.isfinite(v)
                for v in box):
            self._fail(f'{where}: "bbox" holds {box!r}; all four must be '
                       'finite numbers')
        x, y, width, height = box
        if width < 0 or height < 0:
            self._fail(f'{where}: "bbox" {box!r} has a negative size; the '
                       'format is [x, y, width, height], not two corners')
        if width == 0 or height == 0:
            if self.zero_area == 'error':
                self._fail(f'{where}: "bbox" {box!r} has no area; mend it, '
                           'or set zero_area="ignore" in the data set')
            self._num_zero_area += 1
        return [x, y, x + width, y + height]

    def _check_file_once(self) -> None:
        """Check what concerns the whole file, while it is still open."""
        if self._categories_checked:
            return
        self._categories_checked = True
        self._check_classes()
        self._check_references()

    def _check_classes(self) -> None:
        """Every class must be in the file, in the file's order."""
        by_id = {c['id']: c['name'] for c in self.coco.dataset['categories']}
        wanted = list(self.metainfo['classes'])
        found = [by_id[i] for i in self.cat_ids]
        missing = [name for name in wanted if name not in found]
        if missing:
            self._fail(
                f'no category named {missing[:5]} ({len(missing)} of '
                f'{len(wanted)} classes are missing); the file has '
                f'{sorted(by_id.values())[:10]}; set '
                'metainfo=dict(classes=(...)) of the data set to its names')
        if found != wanted:
            self._fail(
                f'the classes come in another order, {found[:10]}, than in '
                f'metainfo, {wanted[:10]}; mmdet numbers them in the order '
                'of the file: list them so')

    def _check_references(self) -> None:
        """Every annotation must name a known category and image."""
        categories = {c['id'] for c in self.coco.dataset['categories']}
        images = {img['id'] for img in self.coco.dataset['images']}
        for ann in self.coco.dataset.get('annotations', []):
            if ann.get('category_id') not in categories:
                self._fail(f'annotation {ann.get("id")} of image '
                           f'{ann.get("image_id")} has the unknown category '
                           f'{ann.get("category_id")}; known are '
                           f'{sorted(categories)[:10]}')
            if ann.get('image_id') not in images:
                self._fail(f'annotation {ann.get("id")} belongs to image '
                           f'{ann.get("image_id")}, which the file does not '
                           'list under "images"')

    def _fail(self, what: str) -> None:
        raise AnnotationError(f'{self.ann_file}: {what}')


@DATASETS.register_module()
class CenterNet2CocoDataset(StrictCocoMixin, CocoDataset):
    """``CocoDataset`` read as the original reads it.

    See :class:`StrictCocoMixin`.
    """
