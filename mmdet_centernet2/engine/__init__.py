"""Hooks, schedules and what else drives a run."""

from .hooks import CompileHook, CPUSpeedHook, FastInferenceHook, speed_up
from .optimizers import BF16OptimWrapper, GroupedOptimWrapperConstructor
from .schedulers import RepeatedMultiStepLR, WarmupCosineLR
from .train_loop import FastResumeTrainLoop
from .visualizer import CenterNet2Visualizer

__all__ = [
    'BF16OptimWrapper',
    'CPUSpeedHook',
    'CenterNet2Visualizer',
    'CompileHook',
    'FastInferenceHook',
    'FastResumeTrainLoop',
    'GroupedOptimWrapperConstructor',
    'RepeatedMultiStepLR',
    'WarmupCosineLR',
    'speed_up',
]
