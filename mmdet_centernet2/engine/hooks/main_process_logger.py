"""The log of a test, written by one process."""

from __future__ import annotations

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import LoggerHook
from mmengine.runner import Runner


@HOOKS.register_module()
class MainProcessLoggerHook(LoggerHook):
    """mmengine's ``LoggerHook``; the metrics of a test are written by the main process.

    In mmengine all processes write the same JSON file at the same time, which
    can damage it.
    """

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log the metrics and write them to the run's JSON file."""
        if is_main_process():
            super().after_test_epoch(runner, metrics)
