"""Hooks."""

from .compile_hook import CompileHook
from .cpu_speed import CPUSpeedHook
from .fast_inference import FastInferenceHook, speed_up
from .safe_checkpoint import SafeCheckpointHook

__all__ = ['CPUSpeedHook', 'CompileHook', 'FastInferenceHook', 'SafeCheckpointHook', 'speed_up']
