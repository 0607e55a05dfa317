"""Evaluate predictions that equal the annotations of a data set."""

import numpy as np
import torch
from mmdet.registry import METRICS
from pycocotools import mask as mask_utils


def evaluate_perfect(dataset, ann_file, **metric_cfg):
    """Evaluate a data set's own objects as predictions of score 0.9.

    Args:
        dataset (BaseDetDataset): In test mode.
        ann_file (str): Its annotation file.
        **metric_cfg: Arguments of mmdet's ``CocoMetric``.

    Returns:
        dict[str, float]: The metric's results.
    """
    metric = METRICS.build({'type': 'CocoMetric', 'ann_file': str(ann_file), **metric_cfg})
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        metric.process(
            {},
            [
                dict(
                    img_id=info['img_id'],
                    ori_shape=(info['height'], info['width']),
                    pred_instances=_predictions(info['instances']),
                )
            ],
        )
    return metric.evaluate(len(dataset))


def _predictions(instances):
    boxes = torch.tensor([i['bbox'] for i in instances], dtype=torch.float32)
    found = dict(
        bboxes=boxes.reshape(-1, 4),
        labels=torch.tensor([i['bbox_label'] for i in instances]),
        scores=torch.full((len(instances),), 0.9),
    )
    if any('mask' in i for i in instances):
        masks = np.array([_decode(i['mask']) for i in instances])
        found['masks'] = torch.from_numpy(masks)
    return found


def _decode(segmentation):
    if isinstance(segmentation['counts'], list):
        segmentation = mask_utils.frPyObjects(segmentation, *segmentation['size'])
    return mask_utils.decode(segmentation).astype(bool)
