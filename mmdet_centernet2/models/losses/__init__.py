"""Losses of the CenterNet2 heads."""
from .heatmap_focal_loss import HeatmapFocalLoss
from .ltrb_iou_loss import LTRBIoULoss, ltrb_iou_loss

__all__ = ['HeatmapFocalLoss', 'LTRBIoULoss', 'ltrb_iou_loss']
