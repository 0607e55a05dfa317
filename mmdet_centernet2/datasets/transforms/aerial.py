"""Transforms for photographs taken from above."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes


@TRANSFORMS.register_module()
class RandomQuarterTurns(BaseTransform):
    """Turn the image by 0, 90, 180 or 270 degrees, each as likely.

    From above no direction is special; shadows, though, all fall one way in
    one photograph.
    """

    def _turns(self) -> int:
        return int(np.random.randint(4))

    def transform(self, results: dict) -> dict:
        """Turn ``img`` counter-clockwise and ``gt_bboxes`` with it."""
        for _ in range(self._turns()):
            width = results['img'].shape[1]
            results['img'] = np.rot90(results['img'])
            if 'gt_bboxes' in results:
                x1, y1, x2, y2 = results['gt_bboxes'].tensor.unbind(-1)
                results['gt_bboxes'] = HorizontalBoxes(
                    torch.stack([y1, width - x2, y2, width - x1], dim=-1)
                )
        results['img'] = np.ascontiguousarray(results['img'])
        results['img_shape'] = results['img'].shape[:2]
        return results


@TRANSFORMS.register_module()
class KeepBoxesByCenter(BaseTransform):
    """Keep the objects whose centre is in the image; clip their boxes to it.

    The rule by which the tree tiles were cut. After a crop with
    ``bbox_clip_border=False`` it makes crops look like tiles: an object that
    is mostly outside is no object.
    """

    def transform(self, results: dict) -> dict:
        """Drop and clip ``gt_bboxes``, with labels and ignore flags."""
        height, width = results['img_shape'][:2]
        boxes = results['gt_bboxes']
        x, y = boxes.centers.unbind(-1)
        keep = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        results['gt_bboxes'] = boxes[keep]
        results['gt_bboxes'].clip_((height, width))
        for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
            results[key] = results[key][keep.numpy()]
        return results
