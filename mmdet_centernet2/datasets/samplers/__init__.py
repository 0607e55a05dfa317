"""Samplers of the data loaders."""

from .aspect_ratio_batch_sampler import OriginalAspectRatioBatchSampler
from .repeat_factor_sampler import RepeatFactorSampler
from .weighted_class_aware_sampler import WeightedClassAwareSampler

__all__ = ['OriginalAspectRatioBatchSampler', 'RepeatFactorSampler', 'WeightedClassAwareSampler']
