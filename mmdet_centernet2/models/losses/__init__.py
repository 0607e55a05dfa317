"""Losses of the CenterNet2 heads."""

from .federated_loss import FederatedLoss, federated_bce
from .heatmap_focal_loss import HeatmapFocalLoss
from .image_counts import load_image_counts
from .ltrb_iou_loss import LTRBIoULoss, ltrb_iou_loss

__all__ = [
    'FederatedLoss',
    'HeatmapFocalLoss',
    'LTRBIoULoss',
    'federated_bce',
    'load_image_counts',
    'ltrb_iou_loss',
]
