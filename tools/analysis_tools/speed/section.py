"""Sections, how contestants are compared in them, and the rows they return."""

from __future__ import annotations

import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]
Number = int | float | str
MOST = 30  #: Rounds of short work.


class Timing:
    """Seconds of one contestant in the order of the rounds, their median and quartiles."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self.seconds = seconds
        first, self.median, third = np.percentile(seconds, (25, 50, 75)).tolist()
        self.quartiles = [first, third]


@dataclass
class Speedup:
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
    """Time contestants in turn, A B A B, after one round that does not count.

    Whatever slows a machine down for a while then slows all of them. Short work
    goes on for ``at_least`` seconds, ``MOST`` rounds at most. ``wait`` returns when
    the device has nothing more to do; ``progress`` is told the name before each call.
    """
    taken, end = [], 0.0
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


@dataclass
class Row:
    """One line of a table: one contestant at one piece of work."""

    work: str
    contestant: str
    timing: Timing | None = None
    #: Against the first contestant at the same work; None for that one itself.
    speedup: Speedup | None = None
    #: Whatever else was measured, by column heading with unit.
    numbers: dict[str, Number] = field(default_factory=dict)


@dataclass
class Context:
    """How much a section measures, and where."""

    quick: bool = False  #: All in small, to see that everything runs.
    rounds: int = 5  #: Timed calls of each contestant of long work.
    device: str = 'cpu'
    at_least: float = 1.0  #: Seconds that short work is repeated for.

    def pick(self, full, quick):
        """One of two, depending on how much to measure."""
        return quick if self.quick else full

    def compare(
        self,
        work: str,
        contestants: Mapping[str, Call],
        max_rounds: int | None = None,
        numbers: Mapping[str, Number] = {},
        memory: bool = False,
    ) -> list[Row]:
        """Time contestants in turn; the first is the others' reference.

        ``numbers`` are added to every row. ``memory`` is measured in one more
        call of each.
        """
        timings = paired(
            contestants,
            min(self.rounds, max_rounds or self.rounds),
            at_least=self.at_least,
            wait=torch.cuda.synchronize if self.device == 'cuda' else lambda: None,
            progress=lambda name: say(f'{work}: {name}'),
        )
        rows = [Row(work, name, timing, numbers=dict(numbers)) for name, timing in timings.items()]
        for row in rows[1:]:
            row.speedup = speedup(rows[0].timing, row.timing)
        for row in rows if memory else ():
            call = contestants[row.contestant]
            row.numbers['extra memory (MB)'] = extra_memory(call, self.device)
        return rows


@dataclass(frozen=True)
class Plot:
    """Growth of a figure, a line for each contestant, both axes in logs."""

    file: str
    title: str
    x: str  #: Key of ``Row.numbers``.
    y: str = 'ms'  #: That is the median time; or a key of ``Row.numbers``.
    only: str = ''  #: A text that the work of the rows contains.


@dataclass
class Section:
    """A part of the benchmark, and what came of it."""

    name: str
    help: str  #: Stands above its table.
    measure: Callable[[Context], list[Row]]
    plots: tuple[Plot, ...] = ()
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ''  #: Why there are no rows.

    def run(self, context: Context) -> None:
        """Measure in a fork, so that nothing is left to the next section.

        The calling process must not have computed anything: neither OpenMP's
        threads nor CUDA survive a fork.
        """
        start = time.perf_counter()
        try:
            with fork() as child:
                self.rows = child.submit(self.measure, context).result()
        except Exception as failure:  # the other sections go on
            traceback.print_exc()
            self.error, self.plots = f'{type(failure).__name__}: {failure}', ()
        self.seconds = time.perf_counter() - start


#: By name, in the order in which they are run.
SECTIONS: dict[str, Section] = {}


def section(name: str, help: str, *plots: Plot):
    """Register a function as a section."""

    def register(measure):
        SECTIONS[name] = Section(name, help, measure, plots)
        return measure

    return register


def say(text: str) -> None:
    """Show what is going on, on a terminal only."""
    if sys.stderr.isatty():
        print(f'\r\033[K{text[:78]}', end='', file=sys.stderr, flush=True)


def extra_memory(call: Call, device: str = 'cpu') -> float:
    """Highest amount of tensor memory in MB that a call holds at one time.

    On a CPU it is summed up from the allocations that torch's profiler
    records, so it is exact; on a GPU it is the caching allocator's peak. A
    ``release`` of the call drops what is kept from the last time.
    """
    if isinstance(call, Worker):
        return call(partial(extra_memory, device=device))
    getattr(call, 'release', lambda: None)()
    if device == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 1e6


class Worker:
    """A contestant in a process of its own, which ends with ``stack``.

    For settings that would help the others. Make all workers before this
    process computes anything. What ``make`` returns is called over there.
    """

    def __init__(self, make: Callable[[], Call], stack: ExitStack) -> None:
        self._make, self._pool = make, stack.enter_context(fork())
        self._pool.submit(int).result()  # forks now

    def __call__(self, use: Callable[[Call], object] | None = None) -> object:
        """Result of the call, or of ``use`` on it; functions of modules."""
        return self._pool.submit(_in_worker, self._make, use).result()

    def end(self) -> None:
        """End the process: the memory that it holds slows others down."""
        self._pool.shutdown()


_calls: list[Call] = []  # of a worker's process


def _in_worker(make: Callable[[], Call], use: Callable[[Call], object] | None) -> object:
    if not _calls:
        _calls.append(make())
    return _calls[0]() if use is None else use(_calls[0])


def fork() -> ProcessPoolExecutor:
    """A process that starts as a copy of this one."""
    return ProcessPoolExecutor(1, get_context('fork'))
