"""LVIS v1, read as the original reads it."""

from __future__ import annotations

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
    labels are ranks of ids, and the metric relies on it.

    See :class:`StrictCocoMixin` for the arguments.
    """

    FILE_KEY = 'coco_url'

    def file_of(self, image: dict) -> str:
        """The path in an image's address."""
        return image['coco_url'].replace('http://images.cocodataset.org/', '')

    def load_data_list(self) -> list[dict]:
        """See :meth:`StrictCocoMixin.load_data_list`."""
        try:
            return super().load_data_list()
        except AnnotationError as error:
            if 'has no "coco_url"' not in str(error):
                raise
            raise AnnotationError(
                f'{error}, from which LVIS v1 makes its file name; is this LVIS v0.5 '
                '(LVISV05Dataset) or COCO (CenterNet2CocoDataset)?'
            ) from error

    def _ids_of_classes(self, table: AnnotationTable) -> list:
        """The file must have the classes of the metainfo, sorted by id."""
        ids = [c['id'] for c in table.categories]
        if ids != sorted(ids):
            self._fail(
                '"categories" are not sorted by "id", but labels are numbered in their order: '
                'sort them'
            )
        found = _edition_free(c['name'] for c in table.categories)
        wanted = _edition_free(self.metainfo['classes'])
        if len(found) != len(wanted):
            self._fail(
                f'the file has {len(found)} categories, metainfo {len(wanted)} classes: set '
                'metainfo=dict(classes=(...)) of the data set to all names of the file, in its '
                'order'
            )
        for label, (name, other) in enumerate(zip(found, wanted)):
            if name != other:
                self._fail(
                    f'the category of label {label} is {name!r}, but {other!r} in metainfo. '
                    'Training and evaluation must have the same classes in the same order, that '
                    'of the ids: set metainfo=dict(classes=(...)) to the names of the training '
                    'file, and number the categories of this file like that'
                )
        return ids

    def _fail(self, what: str) -> None:
        raise AnnotationError(f'{self.ann_file}: {what}')


def _edition_free(names) -> list[str]:
    return [_OTHER_NAMES.get(name, name) for name in names]
