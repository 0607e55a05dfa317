"""What a person sees while a model trains."""

from __future__ import annotations

import time
from collections.abc import Callable

from mmengine.hooks import Hook
from mmengine.runner import Runner


def clock(seconds: float) -> str:
    """Minutes and seconds, e.g. ``'7:05'``."""
    return '{}:{:02d}'.format(*divmod(max(0, round(seconds)), 60))


class ProgressHook(Hook):
    """Prints a line with loss and ETA every few seconds.

    Args:
        say: Called with each line.
        every: Seconds between two lines.

    Attributes:
        seconds: Wall-clock time of the training loop so far.
    """

    priority = 'VERY_LOW'

    def __init__(self, say: Callable[[str], None] = print, every: float = 10.0) -> None:
        self.say = say
        self.every = every
        self.seconds = 0.0

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._start = self._last_line = time.monotonic()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Say how things stand when it is time to."""
        now = time.monotonic()
        self.seconds = now - self._start
        done, total = runner.iter + 1, runner.max_iters
        if done in (1, total) or now - self._last_line >= self.every:
            self._last_line = now
            pace = self.seconds / done
            loss = runner.message_hub.get_scalar('train/loss').mean(20)
            self.say(
                f'{done:5d}/{total} iterations   loss {loss:6.3f}   '
                f'{pace:5.2f} s/iteration   {clock(self.seconds)} gone, '
                f'{clock(pace * (total - done))} to go'
            )


class KeepPredictions(Hook):
    """Keeps every tested sample's detections for the pictures."""

    def __init__(self) -> None:
        self.samples: list = []

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: list | None = None,
    ) -> None:
        """Keep one batch's samples."""
        self.samples += [sample.cpu() for sample in outputs or ()]
