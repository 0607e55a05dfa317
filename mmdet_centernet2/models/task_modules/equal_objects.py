"""Equal boxes in the ground truth of the second stage."""
import torch
from mmdet.structures import SampleList
from mmengine.structures import InstanceData


def share_labels(batch_data_samples: SampleList) -> SampleList:
    """Give equal boxes of an image the label of the first of them.

    The original matches the ground truth among its RoIs like any other RoI,
    so the first of several equal boxes takes them all. mmdet's samplers
    match each one to itself.

    Args:
        batch_data_samples (list[DetDataSample]): With ``gt_instances``,
            boxes as tensors of shape (n, 4). They are left alone.

    Returns:
        list[DetDataSample]: The same but for those labels.

    Source: docs/differences.md, 27.
    """
    shared = []
    for sample in batch_data_samples:
        sample = sample.new()
        sample.gt_instances = _share_labels(sample.gt_instances)
        shared.append(sample)
    return shared


def _share_labels(objects: InstanceData) -> InstanceData:
    """The same objects, with labels shared among equal boxes."""
    boxes = objects.bboxes
    if len(boxes) < 2:
        return objects
    equal = (boxes[:, None] == boxes).all(-1)
    numbers = torch.arange(len(boxes), device=boxes.device)
    first = torch.where(equal, numbers, len(boxes)).amin(1)
    objects = objects.new()
    objects.labels = objects.labels[first]
    return objects
