"""Hooks, schedules and what else drives a run."""
from .bf16 import BF16OptimWrapper
from .compile_hook import CompileHook
from .cpu_speed import CPUSpeedHook
from .fast_inference import FastInferenceHook, speed_up
from .lr_schedules import RepeatedMultiStepLR, WarmupCosineLR
from .train_loop import FastResumeTrainLoop
from .visualizer import CenterNet2Visualizer

__all__ = [
    'BF16OptimWrapper', 'CPUSpeedHook', 'CenterNet2Visualizer', 'CompileHook',
    'FastInferenceHook', 'FastResumeTrainLoop', 'RepeatedMultiStepLR',
    'WarmupCosineLR', 'speed_up'
]
