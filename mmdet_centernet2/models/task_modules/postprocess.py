"""Last steps on detections of one image."""
from mmdet.structures.bbox import scale_boxes
from mmengine.structures import InstanceData


def finish_detections(results: InstanceData, img_meta: dict,
                      rescale: bool) -> InstanceData:
    """Rescale, clip and drop what became empty.

    NMS has run before, in pixels of the network input: mmdet's own heads
    rescale first (docs/differences.md, 38).

    Args:
        results (InstanceData): ``bboxes`` (n, 4) in pixels of the network
            input and whatever else belongs to them.
        img_meta (dict): ``img_shape``; with ``rescale`` also ``ori_shape``
            and ``scale_factor`` (width, height).
        rescale (bool): Whether to return pixels of the original image.

    Returns:
        InstanceData: At most n detections, in the same order.
    """
    boxes, shape = results.bboxes, img_meta['img_shape']
    if rescale:
        boxes = scale_boxes(boxes, [1 / s for s in img_meta['scale_factor']])
        shape = img_meta['ori_shape']
    boxes[:, 0::2] = boxes[:, 0::2].clamp(min=0, max=shape[1])
    boxes[:, 1::2] = boxes[:, 1::2].clamp(min=0, max=shape[0])
    results.bboxes = boxes
    return results[(boxes[:, 2:] > boxes[:, :2]).all(-1)]
