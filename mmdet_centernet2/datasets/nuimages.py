"""nuImages, converted to the COCO format."""

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS

from .centernet2_coco import StrictCocoMixin


@DATASETS.register_module()
class NuImagesDataset(StrictCocoMixin, CocoDataset):
    """The ten foreground classes of nuImages with boxes and RLE masks.

    Annotations are in the COCO format, as mmdet3d's nuImages converter writes
    it; category ids start from 0.

    See :class:`StrictCocoMixin` for the arguments.
    """

    METAINFO = {
        'classes': (
            'car',
            'truck',
            'trailer',
            'bus',
            'construction_vehicle',
            'bicycle',
            'motorcycle',
            'pedestrian',
            'traffic_cone',
            'barrier',
        ),
        'palette': [
            (31, 119, 180),
            (255, 127, 14),
            (148, 103, 189),
            (44, 160, 44),
            (140, 86, 75),
            (214, 39, 40),
            (227, 119, 194),
            (23, 190, 207),
            (255, 187, 40),
            (127, 127, 127),
        ],
    }
