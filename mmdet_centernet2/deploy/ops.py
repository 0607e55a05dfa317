"""Standard ONNX operators that PyTorch has no single function for."""

from typing import Any

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor, nn
from torch.autograd import Function

#: Twice the longest chain of decisions that crowds of random boxes have
#: shown (the tests count it). A step costs one matrix-vector product.
STEPS = 20


class SuppressNonMaxima(Function):
    """Scores after NMS, -1 for what is dropped; see ``postprocess.suppress``.

    ``NonMaxSuppression`` gives indices, as many as are left; writing their
    scores into a constant shape keeps everything after it of constant shape.
    """

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, *options: Any) -> Tensor:
        """Boxes (B, N, 4) and scores (B, C, N) to scores (B, C, N); does not compute them."""
        return scores.clone()  # an export records the shape only

    @staticmethod
    def symbolic(g, boxes, scores, max_per_class, iou_threshold, score_threshold) -> Any:
        """The nodes; ``options`` of ``forward`` are the last three."""

        def constant(value: Any, dtype: torch.dtype = torch.float32) -> Any:
            return g.op('Constant', value_t=torch.tensor([value], dtype=dtype))

        limit = constant(max_per_class, torch.int64)
        thresholds = constant(iou_threshold), constant(score_threshold)
        picked = g.op('NonMaxSuppression', boxes, scores, limit, *thresholds)
        dropped = g.op('ConstantOfShape', g.op('Shape', scores), value_t=torch.tensor([-1.0]))
        kept = g.op('ScatterND', dropped, picked, g.op('GatherND', scores, picked))
        kept.setType(scores.type())
        return kept


class RoIAlign(Function):
    """A layer of mmcv's ``RoIAlign``, exported as the operator of that name (opset 16)."""

    @staticmethod
    def forward(ctx: Any, feats: Tensor, boxes: Tensor, images: Tensor, layer: nn.Module) -> Tensor:
        """Pool boxes (n, 4) of ``images`` (n, ): (n, C, h, w)."""
        return layer(feats, torch.cat([images[:, None].to(boxes.dtype), boxes], dim=1))

    @staticmethod
    def symbolic(g, feats, boxes, images, layer) -> Any:
        """The node."""
        return g.op(
            'RoiAlign',
            *(feats, boxes, images),
            output_height_i=layer.output_size[0],
            output_width_i=layer.output_size[1],
            spatial_scale_f=float(layer.spatial_scale),
            sampling_ratio_i=int(layer.sampling_ratio),
            mode_s='avg',
            coordinate_transformation_mode_s='half_pixel' if layer.aligned else 'output_half_pixel',
        )


def suppression(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """[..., j, i]: whether box j, if kept, suppresses i; (B, C, N, N)."""
    overlap = (bbox_overlaps(boxes, boxes) > iou_threshold).unsqueeze(1)
    index = torch.arange(scores.size(-1), device=scores.device)
    earlier = index.unsqueeze(-1) < index
    one, other = scores.unsqueeze(-1), scores.unsqueeze(-2)
    return overlap & ((one > other) | ((one == other) & earlier))


def dense_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    score_threshold: float = 0.0,
    steps: int = STEPS,
) -> Tensor:
    """Greedy NMS class by class, all of constant shape, for TensorRT.

    TensorRT's NMS layer has an output whose shape depends on the data, which
    the layers of a second stage refuse, and looks at the 5,000 best (box,
    class) pairs only. Here, box ``i`` survives exactly if no surviving box of
    a higher score overlaps it: ``keep = not (keep @ suppress)`` for all boxes
    at once, solved by iteration. Needs ``C * N * N`` values for each image.

    Args:
        boxes: Float32 (the areas overflow float16), shape (B, N, 4).
        scores: Shape (B, C, N).
        iou_threshold: Boxes that overlap more suppress one another.
        score_threshold: Boxes up to this score do not take part.
        steps: Where a chain of decisions is longer, its far end may be wrong.

    Returns:
        Whether each is kept, shape (B, C, N).
    """
    valid = scores > score_threshold
    suppress = suppression(boxes, scores, iou_threshold)
    suppress = (suppress & valid.unsqueeze(-1)).to(scores.dtype)
    keep = valid.unsqueeze(-2)
    for _ in range(steps):
        keep = torch.matmul(keep.to(scores.dtype), suppress) < 0.5
    return keep.squeeze(-2) & valid
