"""Helpers that know nothing of models or data."""
from .setup_env import register_all_modules

__all__ = ['register_all_modules']
