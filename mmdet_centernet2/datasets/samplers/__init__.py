"""Samplers of the data loaders."""

from .aspect_ratio_batch_sampler import OriginalAspectRatioBatchSampler
from .class_samplers import RepeatFactorSampler, WeightedClassAwareSampler

__all__ = ['OriginalAspectRatioBatchSampler', 'RepeatFactorSampler', 'WeightedClassAwareSampler']
