"""Paired timing: contestants take turns in one run, A B A B.

Whatever slows a machine down for a while then slows all of them, and ratios
mean something on a machine that is not quiet.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

Call = Callable[[], object]
MOST = 30  #: Rounds of short work.


class Timing(NamedTuple):
    """Seconds of one contestant, in the order of the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median in seconds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> list[float]:
        """First and third quartile in seconds."""
        return np.percentile(self.seconds, (25, 75)).tolist()


class Speedup(NamedTuple):
    """Times as fast: ratio of medians, and median of the rounds' ratios."""

    of_medians: float
    of_pairs: float


def speedup(reference: Timing, other: Timing) -> Speedup:
    """How many times as fast ``other`` is, of the same rounds."""
    pairs = [a / b for a, b in zip(reference.seconds, other.seconds, strict=True)]
    return Speedup(reference.median / other.median, statistics.median(pairs))


def paired(
    contestants: Mapping[str, Call],
    rounds: int,
    at_least: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    wait: Call = lambda: None,
    progress: Callable[[str], object] = lambda name: None,
) -> dict[str, Timing]:
    """Time contestants in turn, after one round that does not count.

    Args:
        contestants: By name; each call is one piece of work.
        rounds: Timed calls of each.
        at_least: Seconds that short work goes on for, ``MOST`` rounds at most.
        clock: Seconds.
        wait: Returns when the device has nothing more to do.
        progress: Told the name before each call.
    """
    taken: list[list[float]] = []
    end = 0.0
    while len(taken) <= rounds or (len(taken) <= MOST and clock() < end):
        if len(taken) == 1:
            end = clock() + at_least
        taken.append([])
        for name, call in contestants.items():
            progress(name)
            wait()
            start = clock()
            call()
            wait()
            taken[-1].append(clock() - start)
    return {name: Timing(seconds) for name, seconds in zip(contestants, zip(*taken[1:]))}
