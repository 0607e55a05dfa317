"""LVIS v1, read as the original reads it."""
from typing import List

from mmdet.datasets import LVISV1Dataset
from mmdet.registry import DATASETS

from .centernet2_coco import AnnotationError, StrictCocoMixin

# Two classes whose names differ between editions of the class list, label 161
# and label 654. The ids are the same.
_OTHER_NAMES = {
    'horned_cow': 'bull',
    'speaker_(stero_equipment)': 'speaker_(stereo_equipment)',
}


@DATASETS.register_module()
class CenterNet2LVISDataset(StrictCocoMixin, LVISV1Dataset):
    """mmdet's ``LVISV1Dataset`` that drops nothing unseen.

    1,203 classes, category id minus one. An image's file is what follows the
    host in its ``coco_url``, such as ``train2017/000000391895.jpg``. Needs
    the package ``lvis``.

    Other data in LVIS format are read with ``metainfo=dict(classes=(...))``,
    which must name **all** categories of the file in the order of their ids:
    labels are ranks of ids, and the metric relies on it.

    See :class:`StrictCocoMixin` for the arguments.

    Source: spec §6.5, Q41.
    """

    def load_data_list(self) -> List[dict]:
        """See :meth:`StrictCocoMixin.load_data_list`."""
        try:
            return super().load_data_list()
        except AnnotationError as error:
            if getattr(error.__cause__, 'args', None) != ('coco_url', ):
                raise
            raise AnnotationError(
                f'{self.ann_file}: an image has no "coco_url", from which '
                'LVIS v1 makes its file name; is this LVIS v0.5 '
                '(LVISV05Dataset) or COCO (CenterNet2CocoDataset)?') from error

    @property
    def coco(self):
        """The file while it is open, under the name the checks know."""
        return self.lvis

    def _check_classes(self) -> None:
        """The file must have the classes of the metainfo, sorted by id."""
        ids = list(self.cat_ids)
        if ids != sorted(ids):
            self._fail('"categories" are not sorted by "id", but labels are '
                       'numbered in their order: sort them')
        found = _edition_free(
            [c['name'] for c in self.coco.dataset['categories']])
        wanted = _edition_free(self.metainfo['classes'])
        if len(found) != len(wanted):
            self._fail(
                f'the file has {len(found)} categories, metainfo '
                f'{len(wanted)} classes: set metainfo=dict(classes=(...)) of '
                'the data set to all names of the file, in its order')
        for label, (name, other) in enumerate(zip(found, wanted)):
            if name != other:
                self._fail(f'the category of label {label} is {name!r}, but '
                           f'{other!r} in metainfo: set '
                           'metainfo=dict(classes=(...)) of the data set to '
                           'the names of the file, in its order')


def _edition_free(names) -> List[str]:
    return [_OTHER_NAMES.get(name, name) for name in names]
