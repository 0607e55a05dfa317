"""The second stages in a graph: every image has the same number of boxes."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures import SampleList
from torch import Tensor, nn
from torch.autograd import Function

from ...models.roi_heads import CanonicalRoIExtractor
from ...models.roi_heads.centernet2_roi_head import fuse_scores
from ..postprocess import best_classes, clip_to_images
from .detectors import get_image_sizes

HEADS = 'mmdet_centernet2.models.roi_heads.'


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


def pool_levels(
    layers: Sequence[nn.Module],
    feats: Sequence[Tensor],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
) -> Tensor:
    """Pool boxes (n, 4) of ``images`` (n, ), each from its level only: (n, C, h, w).

    The number of boxes on a level depends on the image, which TensorRT does
    not take: see ``rewriters.tensorrt``.
    """
    rows = [(levels == level).nonzero().flatten() for level in range(len(feats))]
    parts = [
        RoIAlign.apply(feat, boxes[row], images[row], layer)
        for layer, feat, row in zip(layers, feats, rows)
    ]
    order = torch.cat(rows)
    places = torch.arange(boxes.size(0), device=boxes.device)
    back = torch.zeros_like(order).scatter(0, order, places)
    return torch.cat(parts)[back]


@FUNCTION_REWRITER.register_rewriter(
    HEADS + 'canonical_roi_extractor.CanonicalRoIExtractor.forward'
)
def extractor__forward(
    self: CanonicalRoIExtractor, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor=None
) -> Tensor:
    """Pool ``rois`` (n, 5) from the levels: shape (n, C, h, w)."""
    if roi_scale_factor is not None:
        raise ValueError('roi_scale_factor cannot be exported')
    images, boxes = rois[:, 0].long(), rois[:, 1:]
    if len(feats) == 1:
        return RoIAlign.apply(feats[0], boxes, images, self.roi_layers[0])
    levels = self.map_roi_levels(rois, len(feats))
    return pool_levels(self.roi_layers, feats, boxes, images, levels)


def to_rois(boxes: Tensor) -> Tensor:
    """(B, N, 4) to (B * N, 5) with the image's number in front."""
    numbers = torch.arange(boxes.size(0), dtype=boxes.dtype, device=boxes.device)
    numbers = numbers[:, None, None] + torch.zeros_like(boxes[..., :1])
    return torch.cat([numbers, boxes], dim=-1).reshape(-1, 5)


def run_stages(
    self: StandardRoIHead, feats: tuple[Tensor], boxes: Tensor, image_sizes: Tensor
) -> tuple[Tensor, Tensor]:
    """Boxes (B, N, 4), clipped, and probabilities (B * N, C + 1), background last.

    They are those after all stages, of a cascade or a single one.
    """
    probs = []
    for head, forward in self._stages():
        outputs = forward(feats, to_rois(boxes))
        probs.append(head.get_probs(outputs['cls_score']))
        deltas = outputs['bbox_pred'].float().reshape(boxes.shape)
        boxes = clip_to_images(head.bbox_coder.decode(boxes, deltas), image_sizes)
    return boxes, sum(probs) / float(len(probs))


def predict_masks(
    self: StandardRoIHead, feats: tuple[Tensor], dets: Tensor, labels: Tensor
) -> Tensor:
    """Mask probabilities (B, N, h, w) of each detection's own class."""
    logits = self._mask_forward(feats, to_rois(dets[..., :4]))['mask_preds']
    height, width = int(logits.size(2)), int(logits.size(3))
    if int(logits.size(1)) > 1:
        own = labels.clamp(min=0).reshape(-1, 1, 1, 1)
        logits = logits.gather(1, own.expand(-1, -1, height, width))
    return logits.float().sigmoid().reshape(-1, int(dets.size(1)), height, width)


@FUNCTION_REWRITER.register_rewriter(HEADS + 'centernet2_roi_head.CenterNet2CascadeRoIHead.predict')
@FUNCTION_REWRITER.register_rewriter(HEADS + 'centernet2_roi_head.CenterNet2RoIHead.predict')
def roi_head__predict(
    self: StandardRoIHead,
    x: tuple[Tensor],
    rpn_results_list: tuple[Tensor, Tensor],
    batch_data_samples: SampleList,
    rescale: bool = False,
) -> tuple:
    """Detections (B, N, 5), labels (B, N) and, with a mask head, masks."""
    proposals = rpn_results_list[0]
    sizes = get_image_sizes(batch_data_samples[0].metainfo, proposals)
    boxes, probs = run_stages(self, x, proposals[..., :4], sizes)
    scores = fuse_scores(probs, proposals[..., 4].reshape(-1))[:, :-1]
    scores = scores.reshape(-1, int(proposals.size(1)), int(scores.size(1)))
    cfg = self.test_cfg
    dets, labels = best_classes(boxes, scores, cfg.score_thr, cfg.nms, cfg.max_per_img)
    if not self.with_mask:
        return dets, labels
    return dets, labels, predict_masks(self, x, dets, labels)
