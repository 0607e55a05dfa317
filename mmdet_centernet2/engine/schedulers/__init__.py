"""Learning-rate schedules."""

from .lr_schedules import RepeatedMultiStepLR, WarmupCosineLR

__all__ = ['RepeatedMultiStepLR', 'WarmupCosineLR']
