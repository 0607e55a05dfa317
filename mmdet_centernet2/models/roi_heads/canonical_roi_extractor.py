"""RoI extractor with the original's rule for choosing a level."""

import math
from collections.abc import Sequence

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor

from ..layers import disable_autocast, disable_compile
from ..ops import roi_align


@MODELS.register_module()
class CanonicalRoIExtractor(SingleRoIExtractor):
    """``SingleRoIExtractor`` that maps a canonical size to a canonical level.

    ``level = floor(4 + log2(side / 224 + 1e-8))``, limited to the levels
    there are, where the level of stride ``s`` is ``log2(s)``. mmdet's own
    rule has another offset inside the logarithm.

    Args:
        *args, **kwargs: See mmdet's ``SingleRoIExtractor``.
        featmap_strides: Of the pooled levels, each twice the one before.
        canonical_size: Side in pixels.
        canonical_level: Level of that size. 4 is stride 16.

    Source: detectron2's ``assign_boxes_to_levels``; docs/differences.md, 31.
    """

    def __init__(
        self,
        *args,
        featmap_strides: Sequence[int],
        canonical_size: float = 224.0,
        canonical_level: int = 4,
        **kwargs,
    ) -> None:
        super().__init__(*args, featmap_strides=featmap_strides, **kwargs)
        self.canonical_size = canonical_size
        self.canonical_level = canonical_level
        self.min_level = int(math.log2(featmap_strides[0]))

    def map_roi_levels(self, rois: Tensor, num_levels: int) -> Tensor:
        """Level index of RoIs (n, 5) in pixels, 0 the finest, int64, (n, )."""
        side = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).sqrt()
        levels = torch.floor(self.canonical_level + torch.log2(side / self.canonical_size + 1e-8))
        return (levels - self.min_level).clamp(0, num_levels - 1).long()

    def forward(
        self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """Pool every RoI from its level; see mmdet's ``SingleRoIExtractor``.

        In FP32 even under autocast: half precision would move boxes by several
        pixels, and mmcv's operator has no bfloat16 kernel. One device-host sync.

        Args:
            feats: Of each level, (B, C, H, W).
            rois: (image, x1, y1, x2, y2) in pixels, shape (n, 5); one that is
                not finite pools zeros.
            roi_scale_factor: Enlarges RoIs after the choice of their levels.

        Returns:
            Shape (n, C, height, width), of the maps' type.
        """
        dtype = feats[0].dtype
        exact = torch.promote_types(dtype, torch.float32)
        with disable_autocast(rois.device):
            feats = tuple(feat.to(exact) for feat in feats)
            rois = rois.to(exact)
            if torch.onnx.is_in_onnx_export() or torch.jit.is_tracing():
                pooled = super().forward(feats, rois, roi_scale_factor)
            else:
                pooled = self._pool(feats, rois, roi_scale_factor)
        return pooled.to(dtype)

    @disable_compile
    def _pool(
        self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None
    ) -> Tensor:
        """Sort RoIs by level, pool them level by level, sort them back."""
        rois = torch.where(rois.isfinite().all(1, keepdim=True), rois, 0.0)
        levels = self.map_roi_levels(rois, len(feats))
        if roi_scale_factor is not None:
            rois = self.roi_rescale(rois, roi_scale_factor)
        indices = torch.arange(len(feats), device=rois.device)
        counts = (levels[:, None] == indices).sum(0).tolist()
        order = levels.argsort()
        pooled = [
            roi_align(*parts) for parts in zip(self.roi_layers, feats, rois[order].split(counts))
        ]
        return torch.cat(pooled).index_select(0, order.argsort())
