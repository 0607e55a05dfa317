"""Hooks, schedules and what else drives a run."""
from .cpu_speed import CPUSpeedHook
from .fast_inference import FastInferenceHook, speed_up
from .lr_schedules import RepeatedMultiStepLR, WarmupCosineLR

__all__ = [
    'CPUSpeedHook', 'FastInferenceHook', 'RepeatedMultiStepLR',
    'WarmupCosineLR', 'speed_up'
]
