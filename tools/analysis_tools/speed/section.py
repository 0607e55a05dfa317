"""Sections, what they are given, and the rows they return."""
from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context

import torch
from torch.profiler import ProfilerActivity, profile

from mmdet_centernet2.utils.timing import (Call, Speedup, Timing, paired,
                                           speedup)

Number = int | float | str


@dataclass
class Row:
    """One line of a table: one contestant at one piece of work.

    Args:
        speedup: Against the first contestant at the same work; None for that
            one itself.
        numbers: Whatever else was measured, by column heading with unit.
    """

    work: str
    contestant: str
    timing: Timing | None = None
    speedup: Speedup | None = None
    numbers: dict[str, Number] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """For JSON, times in seconds."""
        out = asdict(self)
        out.pop('timing')
        if self.timing is not None:
            out.update(seconds=self.timing.seconds, median=self.timing.median,
                       quartiles=self.timing.quartiles)
        if self.speedup is not None:
            out['speedup'] = self.speedup._asdict()
        return out


@dataclass
class Context:
    """How much a section measures, and where.

    Args:
        quick: All in small, to see that everything runs.
        rounds: Timed calls of each contestant of long work.
        device: 'cpu' or 'cuda'.
        at_least: Seconds that short work is repeated for.
    """

    quick: bool = False
    rounds: int = 5
    device: str = 'cpu'
    at_least: float = 1.

    def pick(self, full, quick):
        """One of two, depending on how much to measure."""
        return quick if self.quick else full

    def wait(self) -> None:
        """Return when the device has nothing more to do."""
        if self.device == 'cuda':
            torch.cuda.synchronize()

    def compare(self, work: str, contestants: Mapping[str, Call],
                max_rounds: int | None = None,
                numbers: Mapping[str, Number] = {},
                memory: bool = False) -> list[Row]:
        """Time contestants in turn.

        Args:
            work: What they do.
            contestants: By name; the first is the reference of the speed-ups.
            max_rounds: Upper limit of the rounds, for long work.
            numbers: Added to every row.
            memory: Measure the extra memory, too, in one more call of each.
        """
        timings = paired(
            contestants, min(self.rounds, max_rounds or self.rounds),
            at_least=self.at_least, wait=self.wait,
            progress=lambda name: say(f'{work}: {name}'))
        reference = next(iter(timings.values()))
        rows = [
            Row(work, name, timing,
                None if timing is reference else speedup(reference, timing),
                dict(numbers)) for name, timing in timings.items()
        ]
        for row in rows if memory else ():
            call = contestants[row.contestant]
            row.numbers['extra memory (MB)'] = (
                call.extra_memory() if isinstance(call, Worker) else
                extra_memory(call, self.device))
        return rows


@dataclass(frozen=True)
class Plot:
    """Growth of a figure, a line for each contestant, both axes in logs.

    Args:
        x: Key of ``Row.numbers``.
        y: 'ms' for the median time, or a key of ``Row.numbers``.
        only: A text that the work of the rows contains.
    """

    file: str
    title: str
    x: str
    y: str = 'ms'
    only: str = ''


@dataclass(frozen=True)
class Section:
    """A part of the benchmark; ``help`` stands above its table."""

    name: str
    help: str
    measure: Callable[[Context], list[Row]]
    plots: tuple[Plot, ...] = ()


#: By name, in the order in which they are run.
SECTIONS: dict[str, Section] = {}


def section(name: str, help: str, *plots: Plot):
    """Register a function as a section."""

    def register(measure):
        SECTIONS[name] = Section(name, help, measure, plots)
        return measure

    return register


@dataclass
class Result:
    """What came of a section; ``error`` says why there are no rows."""

    section: Section
    rows: list[Row]
    seconds: float
    error: str = ''


def run(section: Section, context: Context) -> Result:
    """Run a section in a fork, so that it leaves nothing to the next one.

    The calling process must not have computed anything: neither OpenMP's
    threads nor CUDA survive a fork.
    """
    start, rows, error = time.perf_counter(), [], ''
    try:
        with _fork() as child:
            rows = child.submit(section.measure, context).result()
    except Exception as failure:  # the other sections go on
        traceback.print_exc()
        error = f'{type(failure).__name__}: {failure}'
    return Result(section, rows, time.perf_counter() - start, error)


def say(text: str) -> None:
    """Show what is going on, on a terminal only."""
    if sys.stderr.isatty():
        print(f'\r\033[K{text[:78]}', end='', file=sys.stderr, flush=True)


def extra_memory(call: Call, device: str = 'cpu') -> float:
    """Highest amount of tensor memory in MB that a call holds at one time.

    On a CPU it is summed up from the allocations that torch's profiler
    records, so it is exact; on a GPU it is the caching allocator's peak. If
    the call has a ``release``, that is called first, to drop what was kept
    from the last time.
    """
    getattr(call, 'release', lambda: None)()
    if device == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(
            activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 1e6


class Worker:
    """A contestant in a process of its own, to be timed in turn with others.

    For settings that a process cannot undo, or that would help the others.
    Make all workers before the process computes anything, see :func:`run`.

    Args:
        make: Run over there once; returns what is to be called. What that
            returns must be picklable.
    """

    def __init__(self, make: Callable[[], Call]) -> None:
        self._pool = _fork(_set_up, (make, ))
        self._pool.submit(int).result()  # forks now

    def __call__(self) -> object:
        return self._pool.submit(_call_here).result()

    def extra_memory(self) -> float:
        """See the function of this name."""
        return self._pool.submit(_call_here, extra_memory).result()

    def stop(self) -> None:
        """End the process."""
        self._pool.shutdown()


def drop_failures(workers: dict[str, Worker]) -> dict[str, str]:
    """Call each once; stop and remove those that fail.

    Returns:
        Why they did, by name.
    """
    failures = {}
    for name, worker in list(workers.items()):
        say(f'first call of {name}')
        try:
            worker()
        except Exception as error:  # the other contestants go on
            failures[name] = f'{type(error).__name__}: {error}'
            workers.pop(name).stop()
    return failures


_here: dict[str, Callable] = {}  # of a worker's process


def _set_up(make: Callable[[], Call]) -> None:
    _here['make'] = make


def _call_here(use: Callable[[Call], object] = lambda call: call()):
    if 'call' not in _here:
        _here['call'] = _here['make']()
    return use(_here['call'])


def _fork(*initializer) -> ProcessPoolExecutor:
    """A process that starts as a copy of this one."""
    return ProcessPoolExecutor(1, get_context('fork'), *initializer)
