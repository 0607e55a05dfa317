"""Metrics."""
from .lvis_metric import CenterNet2LVISMetric

__all__ = ['CenterNet2LVISMetric']
