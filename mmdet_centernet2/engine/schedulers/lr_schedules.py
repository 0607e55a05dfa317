"""The original's learning-rate laws that mmengine cannot say exactly."""

import math
from collections.abc import Sequence

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS


class ClosedFormLR(LRSchedulerMixin, _ParamScheduler):
    """A learning rate that is a function of the iteration alone.

    While warming up it follows a straight line from ``warmup_factor`` times
    the law's value at the start to its value at ``warmup_iters``.

    Args:
        warmup_iters: Length of the warm-up.
        warmup_factor: Where it starts.
        by_epoch: Must be False.
        *args, **kwargs: See mmengine's schedulers.

    Source: detectron2's ``solver/lr_scheduler.py``.
    """

    def __init__(
        self, *args, warmup_iters: int, warmup_factor: float, by_epoch: bool = False, **kwargs
    ) -> None:
        if by_epoch:
            raise ValueError(f'{type(self).__name__} goes by iteration: set by_epoch=False')
        self.warmup_iters = warmup_iters
        self.warmup_factor = warmup_factor
        super().__init__(*args, by_epoch=False, **kwargs)

    def law(self, i: int) -> float:
        """Factor of the base learning rate without warm-up, at iteration ``i`` from 0."""
        raise NotImplementedError

    def factor(self, i: int) -> float:
        """Factor of the base learning rate at iteration ``i`` from 0."""
        if i >= self.warmup_iters:
            return self.law(i)
        done = i / self.warmup_iters
        start = self.warmup_factor * self.law(0)
        return start * (1 - done) + self.law(self.warmup_iters) * done

    def _get_value(self) -> list[float]:
        """Learning rate of each parameter group."""
        factor = self.factor(self.last_step)
        return [base * factor for base in self.base_values]


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(ClosedFormLR):
    """``(1 + cos(pi i / max_iters)) / 2`` over the **whole** run.

    mmengine's ``LinearLR`` and ``CosineAnnealingLR``, chained, multiply
    instead and are off by some 1e-4 while warming up.

    Args:
        max_iters: Length of the run.
        *args, **kwargs: See :class:`ClosedFormLR`.
    """

    def __init__(self, *args, max_iters: int, **kwargs) -> None:
        self.max_iters = max_iters
        super().__init__(*args, **kwargs)

    def law(self, i: int) -> float:
        """See :class:`ClosedFormLR`."""
        return 0.5 * (1 + math.cos(math.pi * i / self.max_iters))


@PARAM_SCHEDULERS.register_module()
class RepeatedMultiStepLR(ClosedFormLR):
    """A step schedule, warm-up included, that starts again and again.

    Args:
        cycle_iters: Length of one repeat.
        milestones: Iterations of a repeat at which the rate is multiplied by ``gamma``.
        gamma: See ``milestones``.
        *args, **kwargs: See :class:`ClosedFormLR`.

    Source: the "24x" schedule in the original's ``MODEL_ZOO.md``.
    """

    def __init__(
        self, *args, cycle_iters: int, milestones: Sequence[int], gamma: float = 0.1, **kwargs
    ) -> None:
        self.cycle_iters = cycle_iters
        self.milestones = tuple(milestones)
        self.gamma = gamma
        super().__init__(*args, **kwargs)

    def law(self, i: int) -> float:
        """See :class:`ClosedFormLR`."""
        return self.gamma ** sum(i >= step for step in self.milestones)

    def factor(self, i: int) -> float:
        """See :class:`ClosedFormLR`."""
        return super().factor(i % self.cycle_iters)
