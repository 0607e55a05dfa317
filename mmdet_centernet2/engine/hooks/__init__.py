"""Hooks."""

from .compile_hook import CompileHook
from .cpu_speed import CPUSpeedHook
from .fast_inference import FastInferenceHook, speed_up

__all__ = ['CPUSpeedHook', 'CompileHook', 'FastInferenceHook', 'speed_up']
