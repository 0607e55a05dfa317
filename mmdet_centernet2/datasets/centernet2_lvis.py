"""LVIS v1, read as the original reads it."""

from __future__ import annotations

from itertools import zip_longest

from mmdet.datasets import LVISV1Dataset
from mmdet.registry import DATASETS

from .annotation_file import AnnotationError, AnnotationTable
from .centernet2_coco import StrictCocoMixin

# Two classes whose names differ between editions of the class list, label 161
# and label 654. The ids are the same.
_OTHER_NAMES = {'horned_cow': 'bull', 'speaker_(stero_equipment)': 'speaker_(stereo_equipment)'}


@DATASETS.register_module()
class CenterNet2LVISDataset(StrictCocoMixin, LVISV1Dataset):
    """mmdet's ``LVISV1Dataset`` that drops nothing unseen.

    1,203 classes, category id minus one. An image's file is what follows the
    host in its ``coco_url``, such as ``train2017/000000391895.jpg``.

    Other data in LVIS format are read with ``metainfo=dict(classes=(...))``,
    which must name **all** categories of the file in the order of their ids:
    labels are ranks of ids, and counts for the federated loss rely on it.
    """

    FILE_KEY = 'coco_url'

    def _ids_of_classes(self, table: AnnotationTable) -> list:
        """All category ids, ascending; their names must be the classes."""
        categories = sorted(table.categories, key=lambda category: category['id'])
        names = [category['name'] for category in categories]
        for label, pair in enumerate(zip_longest(names, self.metainfo['classes'])):
            name, wanted = (_OTHER_NAMES.get(n, n) for n in pair)
            if name != wanted:
                raise AnnotationError(
                    f'{self.ann_file}: the category of label {label} is {name!r}, but {wanted!r} '
                    f'in metainfo ({len(names)} categories, {len(self.metainfo["classes"])} '
                    'classes). Set metainfo=dict(classes=(...)) to all names of the training file '
                    'in the order of their ids, and number the categories of this file like that'
                )
        return [category['id'] for category in categories]
