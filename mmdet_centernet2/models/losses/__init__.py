"""Losses of the CenterNet2 heads."""
from .federated_loss import ChosenScores, FederatedLoss, federated_bce
from .heatmap_focal_loss import HeatmapFocalLoss
from .ltrb_iou_loss import LTRBIoULoss, ltrb_iou_loss

__all__ = [
    'ChosenScores', 'FederatedLoss', 'HeatmapFocalLoss', 'LTRBIoULoss',
    'federated_bce', 'ltrb_iou_loss'
]
