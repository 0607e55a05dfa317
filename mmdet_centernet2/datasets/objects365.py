"""Objects365 v1, read as the original reads it."""
from mmdet.datasets import Objects365V1Dataset
from mmdet.registry import DATASETS

from .centernet2_coco import StrictCocoMixin


@DATASETS.register_module()
class CenterNet2Objects365Dataset(StrictCocoMixin, Objects365V1Dataset):
    """mmdet's ``Objects365V1Dataset`` that drops nothing unseen.

    365 classes, category id minus one; names and order are mmdet's, with the
    trailing space in ``'tissue '``. The categories of the two published files
    come in different orders, so they are sorted by id; evaluation must be
    told, with ``CocoMetric(sort_categories=True)``.

    See :class:`StrictCocoMixin` for the arguments.

    Source: spec §6.5.
    """
