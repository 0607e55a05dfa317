"""Hooks, schedules and what else drives a run."""
from .cpu_speed import CPUSpeedHook
from .lr_schedules import RepeatedMultiStepLR, WarmupCosineLR

__all__ = ['CPUSpeedHook', 'RepeatedMultiStepLR', 'WarmupCosineLR']
