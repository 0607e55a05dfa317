"""Objects365 v1, read as the original reads it."""

from mmdet.datasets import Objects365V1Dataset
from mmdet.registry import DATASETS

from .centernet2_coco import StrictCocoMixin


@DATASETS.register_module()
class CenterNet2Objects365Dataset(StrictCocoMixin, Objects365V1Dataset):
    """mmdet's ``Objects365V1Dataset`` that drops nothing unseen.

    365 classes; names and order are mmdet's, with the trailing space in
    ``'tissue '``. The two published files list their categories in different
    orders; labels follow the names.

    See :class:`StrictCocoMixin` for the arguments.
    """
