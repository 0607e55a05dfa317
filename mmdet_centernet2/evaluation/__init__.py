"""Metrics."""

from .coco_metric import CenterNet2CocoMetric
from .lvis_metric import CenterNet2LVISMetric

__all__ = ['CenterNet2CocoMetric', 'CenterNet2LVISMetric']
