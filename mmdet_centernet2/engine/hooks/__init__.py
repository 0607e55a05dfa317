"""Hooks."""

from .compile_hook import CompileHook
from .cpu_speed import CPUSpeedHook
from .fast_inference import FastInferenceHook, speed_up
from .main_process_logger import MainProcessLoggerHook
from .safe_checkpoint import SafeCheckpointHook

__all__ = [
    'CPUSpeedHook',
    'CompileHook',
    'FastInferenceHook',
    'MainProcessLoggerHook',
    'SafeCheckpointHook',
    'speed_up',
]
