"""Paired timing: contestants take turns in one run, A B A B.

Whatever slows a machine down for a while then hits all of them alike, and
their ratios mean something on a machine that is not quiet.
"""
from __future__ import annotations

import statistics
import time
from typing import Callable, Dict, List, Mapping, NamedTuple, Tuple

Call = Callable[[], object]


class Timing(NamedTuple):
    """How long one contestant took.

    Args:
        seconds (tuple[float, ...]): Of each round, in order.
    """

    seconds: Tuple[float, ...]

    @property
    def median(self) -> float:
        """Median in seconds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> Tuple[float, float]:
        """First and third quartile in seconds, the spread that is told."""
        if len(self.seconds) == 1:
            return self.seconds * 2
        first, _, third = statistics.quantiles(
            self.seconds, n=4, method='inclusive')
        return first, third


class Speedup(NamedTuple):
    """How many times as fast as a reference.

    Args:
        of_medians (float): Ratio of the two medians.
        of_pairs (float): Median of the ratios of each round.
    """

    of_medians: float
    of_pairs: float


def speedup(reference: Timing, other: Timing) -> Speedup:
    """Compare two contestants of one run.

    Args:
        reference (Timing): The one to be faster than.
        other (Timing): Of the same rounds.

    Raises:
        ValueError: If they have not as many rounds.
    """
    if len(reference.seconds) != len(other.seconds):
        raise ValueError(
            f'{len(reference.seconds)} rounds cannot be paired with '
            f'{len(other.seconds)}; compare contestants of one run')
    pairs = [a / b for a, b in zip(reference.seconds, other.seconds)]
    return Speedup(reference.median / other.median, statistics.median(pairs))


def paired(contestants: Mapping[str, Call],
           rounds: int,
           warmup: int = 1,
           at_least: float = 0.,
           max_rounds: int = 30,
           clock: Callable[[], float] = time.perf_counter,
           wait: Call = lambda: None,
           progress: Callable[[str], None] = lambda name: None
           ) -> Dict[str, Timing]:
    """Time contestants in turn.

    Args:
        contestants (Mapping[str, Callable]): By name; each call is one piece
            of work.
        rounds (int): How often each is called and timed, at least.
        warmup (int): Rounds before that are not counted.
        at_least (float): Short work goes on until this many seconds have
            passed.
        max_rounds (int): But no longer than that. Never less than ``rounds``.
        clock (Callable): Seconds, ascending.
        wait (Callable): Returns when the device has nothing more to do.
        progress (Callable): Told the name before each call.

    Returns:
        dict[str, Timing]: In the order of ``contestants``.

    Raises:
        ValueError: If there is nothing to time or no round to time it in.
    """
    if not contestants or rounds < 1:
        raise ValueError(f'nothing to time: {len(contestants)} contestants, '
                         f'{rounds} rounds')
    for _ in range(warmup):
        _round(contestants, clock, wait, progress)
    taken: List[List[float]] = []
    begin = clock()
    while len(taken) < rounds or (len(taken) < max_rounds
                                  and clock() - begin < at_least):
        taken.append(_round(contestants, clock, wait, progress))
    return {
        name: Timing(seconds)
        for name, seconds in zip(contestants, zip(*taken))
    }


def _round(contestants: Mapping[str, Call], clock: Callable[[], float],
           wait: Call, progress: Callable[[str], None]) -> List[float]:
    """Seconds of one call of each."""
    seconds = []
    for name, call in contestants.items():
        progress(name)
        wait()
        start = clock()
        call()
        wait()
        seconds.append(clock() - start)
    return seconds
