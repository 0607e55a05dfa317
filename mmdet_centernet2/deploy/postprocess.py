"""Selection of boxes with one shape for all images; padding has a score of zero or less."""

from typing import Any

import torch
import torch.nn.functional as F
from mmdet.utils import ConfigType
from torch import Tensor
from torch.autograd import Function


def nms_threshold(nms: ConfigType) -> float:
    """IoU threshold of a config of plain NMS; others cannot be exported."""
    kind = nms.get('type', 'nms')
    if kind != 'nms':
        raise ValueError(
            f'nms.type={kind!r} cannot be exported, only plain NMS has an ONNX operator: '
            "set nms.type='nms' in the model's test_cfg"
        )
    return float(nms.get('iou_threshold', nms.get('iou_thr', 0.5)))


class SuppressNonMaxima(Function):
    """Scores after NMS, -1 for what is dropped; see :func:`suppress`.

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


def suppress(
    boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float, max_num: int
) -> Tensor:
    """Scores (B, C, N) of boxes (B, N, 4) after NMS, class by class; -1 for what is dropped.

    ``rewriters.tensorrt`` replaces it for TensorRT. More than ``max_num`` of a class may be
    dropped.
    """
    return SuppressNonMaxima.apply(boxes, scores, max_num, iou_threshold, score_threshold)


def gather_rows(rows: Tensor, indices: Tensor) -> Tensor:
    """``rows[b, indices[b]]`` of (B, N, D) and (B, K): shape (B, K, D)."""
    return rows.gather(1, indices[..., None].expand(-1, -1, int(rows.size(2))))


def best_boxes(
    boxes: Tensor, scores: Tensor, labels: Tensor, nms: ConfigType, max_num: int
) -> tuple[Tensor, Tensor]:
    """NMS of boxes that have one class each, then the ``max_num`` best of each image.

    Args:
        boxes: xyxy, shape (B, K, 4).
        scores: -1 for padding, shape (B, K).
        labels: Shape (B, K).
        nms: See :func:`nms_threshold`.
        max_num: N.

    Returns:
        Boxes and scores (B, N, 5), best first, and labels (B, N); padding is
        zero, its label -1.
    """
    moved = boxes
    if not nms.get('class_agnostic', False):
        # the shift of mmcv's batched_nms: classes do not meet
        present = (scores >= 0)[..., None]
        largest = torch.where(present, boxes, 0.0).amax((1, 2), keepdim=True)
        moved = boxes + labels[..., None].to(boxes.dtype) * (largest + 1)
    kept = suppress(moved, scores[:, None], nms_threshold(nms), 0.0, max_num)
    top, rows, _ = _best(kept, max_num)
    return _pack(gather_rows(boxes, rows), top, labels.gather(1, rows))


def best_classes(
    boxes: Tensor, scores: Tensor, score_thr: float, nms: ConfigType, max_num: int
) -> tuple[Tensor, Tensor]:
    """The same of boxes (B, N, 4) that have scores (B, N, C) for each class, without background.

    Only scores above ``score_thr`` take part.
    """
    if nms.get('class_agnostic', False):
        raise ValueError(
            'class-agnostic NMS of the second stage cannot be exported: '
            'drop class_agnostic from test_cfg.rcnn'
        )
    kept = suppress(boxes, scores.transpose(1, 2), nms_threshold(nms), score_thr, max_num)
    top, rows, labels = _best(kept, max_num)
    return _pack(gather_rows(boxes, rows), top, labels)


def _best(scores: Tensor, max_num: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best of (B, C, N), padded with -1, their boxes and classes, each (B, max_num)."""
    num_boxes = int(scores.size(2))
    scores = scores.flatten(1)
    missing = max_num - int(scores.size(1))
    if missing > 0:
        scores = F.pad(scores, (0, missing), value=-1.0)
    top, indices = scores.topk(max_num, dim=1)
    labels = torch.div(indices, num_boxes, rounding_mode='trunc')
    return top, indices - labels * num_boxes, labels


def _pack(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Join boxes and scores; what has no score becomes zeros, label -1."""
    present = scores > 0
    dets = torch.cat([boxes, scores[..., None]], dim=-1)
    return torch.where(present[..., None], dets, 0.0), torch.where(present, labels, -1)


def clip_to_images(boxes: Tensor, image_sizes: Tensor) -> Tensor:
    """Clip boxes (B, N, 4) to images of (height, width), shape (B, 2)."""
    limits = image_sizes.flip(-1).repeat(1, 2)[:, None]
    return torch.min(boxes.clamp(min=0), limits)
