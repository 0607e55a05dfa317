"""What a person sees while a model trains, and what the loss curve needs."""
import time
from typing import Callable, Dict, List, Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner


def clock(seconds: float) -> str:
    """Minutes and seconds, e.g. ``'7:05'``."""
    return '{}:{:02d}'.format(*divmod(max(0, round(seconds)), 60))


class ProgressHook(Hook):
    """Prints a line with loss and ETA every few seconds; keeps all losses.

    Args:
        say: Called with each line.
        every: Seconds between two lines.

    Attributes:
        history: Per name of a loss its value at every iteration.
        seconds: Wall-clock time of the training loop so far.
    """

    priority = 'VERY_LOW'

    def __init__(self,
                 say: Callable[[str], None] = print,
                 every: float = 10.0) -> None:
        self.say = say
        self.every = every
        self.history: Dict[str, List[float]] = {}
        self.seconds = 0.0

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._start = self._last_line = time.monotonic()

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Optional[dict] = None,
                         outputs: Optional[dict] = None) -> None:
        """Record the losses; say how things stand when it is time to."""
        for name, value in outputs.items():
            if 'loss' in name:
                self.history.setdefault(name, []).append(float(value.detach()))
        now = time.monotonic()
        self.seconds = now - self._start
        done, total = runner.iter + 1, runner.max_iters
        if done in (1, total) or now - self._last_line >= self.every:
            self._last_line = now
            self.say(self._line(done, total))

    def _line(self, done: int, total: int) -> str:
        recent = self.history['loss'][-20:]
        pace = self.seconds / done
        return (f'{done:5d}/{total} iterations   '
                f'loss {sum(recent) / len(recent):6.3f}   '
                f'{pace:5.2f} s/iteration   '
                f'{clock(self.seconds)} gone, '
                f'{clock(pace * (total - done))} to go')


class KeepPredictions(Hook):
    """Keeps every tested sample's detections for the pictures."""

    def __init__(self) -> None:
        self.samples: list = []

    def before_test(self, runner: Runner) -> None:
        """Forget the samples of an earlier test."""
        self.samples = []

    def after_test_iter(self,
                        runner: Runner,
                        batch_idx: int,
                        data_batch: Optional[dict] = None,
                        outputs: Optional[list] = None) -> None:
        """Keep one batch's samples."""
        self.samples += [sample.cpu() for sample in outputs]
