"""Optimizer wrappers and their constructors."""

from .bf16 import BF16OptimWrapper
from .grouped import GroupedOptimWrapperConstructor

__all__ = ['BF16OptimWrapper', 'GroupedOptimWrapperConstructor']
