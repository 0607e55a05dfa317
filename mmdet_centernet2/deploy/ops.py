"""Standard ONNX operators that PyTorch has no single function for.

Each computes the same in PyTorch and becomes one or a few nodes when it is
exported.
"""
from typing import Any, Tuple

import torch
from mmcv.ops import nms, roi_align
from torch import Tensor
from torch.autograd import Function


class SuppressNonMaxima(Function):
    """Scores with -1 in the place of those that NMS drops.

    ``NonMaxSuppression`` gives indices, as many as are left; writing their
    scores into a constant shape keeps everything after it of constant shape.
    """

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, max_per_class: int,
                iou_threshold: float, score_threshold: float) -> Tensor:
        """Run it.

        Args:
            ctx: Not used.
            boxes (Tensor): xyxy, shape (B, N, 4).
            scores (Tensor): Shape (B, C, N).
            max_per_class (int): How many to keep of a class and image.
            iou_threshold (float): A box that overlaps a better one of its
                class by more than this is dropped.
            score_threshold (float): Only scores above it take part.

        Returns:
            Tensor: Shape (B, C, N).
        """
        if torch.onnx.is_in_onnx_export():
            return scores.clone()  # only the shape is recorded
        kept = torch.full_like(scores, -1)
        for image, (image_boxes, image_scores) in enumerate(
                zip(boxes, scores)):
            for label, class_scores in enumerate(image_scores):
                if not (class_scores > score_threshold).any():
                    continue
                _, best = nms(
                    image_boxes,
                    class_scores.contiguous(),
                    iou_threshold,
                    score_threshold=score_threshold,
                    max_num=max_per_class)
                kept[image, label, best] = class_scores[best]
        return kept

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, max_per_class: int,
                 iou_threshold: float, score_threshold: float) -> Any:
        """Nodes of it."""

        def constant(value: Any, dtype: torch.dtype) -> Any:
            return g.op(
                'Constant', value_t=torch.tensor([value], dtype=dtype))

        picked = g.op('NonMaxSuppression', boxes, scores,
                      constant(max_per_class, torch.int64),
                      constant(iou_threshold, torch.float32),
                      constant(score_threshold, torch.float32))
        dropped = g.op(
            'ConstantOfShape',
            g.op('Shape', scores),
            value_t=torch.tensor([-1], dtype=torch.float32))
        kept = g.op('ScatterND', dropped, picked,
                    g.op('GatherND', scores, picked))
        kept.setType(scores.type())
        return kept


class RoIAlign(Function):
    """mmcv's RoIAlign, exported as the operator of that name (opset 16)."""

    @staticmethod
    def forward(ctx: Any, feats: Tensor, boxes: Tensor, images: Tensor,
                output_size: Tuple[int, int], scale: float,
                sampling_ratio: int, aligned: bool) -> Tensor:
        """Run it.

        Args:
            ctx: Not used.
            feats (Tensor): One level, (B, C, H, W).
            boxes (Tensor): xyxy in pixels of the input, shape (n, 4).
            images (Tensor): Image of each box, shape (n, ), int64.
            output_size (tuple[int, int]): Height and width of a result.
            scale (float): Cells per pixel.
            sampling_ratio (int): Samples of a bin along one axis; 0 for as
                many as it has cells.
            aligned (bool): Whether cells are points half a cell off.

        Returns:
            Tensor: Averages, shape (n, C, *output_size).
        """
        rois = torch.cat([images[:, None].to(boxes.dtype), boxes], dim=1)
        return roi_align(feats, rois, output_size, scale, sampling_ratio,
                         'avg', aligned)

    @staticmethod
    def symbolic(g: Any, feats: Any, boxes: Any, images: Any,
                 output_size: Tuple[int, int], scale: float,
                 sampling_ratio: int, aligned: bool) -> Any:
        """The node of it."""
        return g.op(
            'RoiAlign',
            feats,
            boxes,
            images,
            output_height_i=output_size[0],
            output_width_i=output_size[1],
            spatial_scale_f=scale,
            sampling_ratio_i=sampling_ratio,
            mode_s='avg',
            coordinate_transformation_mode_s='half_pixel'
            if aligned else 'output_half_pixel')
