"""Hooks, schedules and what else drives a run."""
from .lr_schedules import RepeatedMultiStepLR, WarmupCosineLR

__all__ = ['RepeatedMultiStepLR', 'WarmupCosineLR']
