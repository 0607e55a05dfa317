"""What a section of the benchmark is, and what it is given."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Callable, Dict, List, Mapping, Optional, Tuple, Union

import torch

from mmdet_centernet2.benchmarks.memory import extra_memory
from mmdet_centernet2.benchmarks.timing import (Call, Speedup, Timing, paired,
                                                speedup)
from mmdet_centernet2.benchmarks.workers import Worker

Number = Union[int, float, str]


@dataclass
class Row:
    """One line of a table: one contestant at one piece of work.

    Args:
        work (str): What had to be done, with its size.
        contestant (str): Who did it.
        timing (Timing, optional): None for rows without one.
        speedup (Speedup, optional): Against the first contestant at the same
            work; None for that one itself.
        numbers (dict[str, int | float | str]): Whatever else was measured;
            the keys are column headings and name the unit.
    """

    work: str
    contestant: str
    timing: Optional[Timing] = None
    speedup: Optional[Speedup] = None
    numbers: Dict[str, Number] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """For JSON, times in seconds."""
        out = asdict(self)
        out.pop('timing')
        if self.timing is not None:
            first, third = self.timing.quartiles
            out.update(seconds=list(self.timing.seconds),
                       median=self.timing.median, quartiles=[first, third])
        if self.speedup is not None:
            out['speedup'] = self.speedup._asdict()
        return out


@dataclass
class Context:
    """How much to measure, where, and whom to tell.

    Args:
        quick (bool): All in small: says that everything runs, and little
            more.
        rounds (int): Timed calls of each contestant of long work.
        device (str): 'cpu' or 'cuda'.
        say (Callable): Shows a line of progress.
    """

    quick: bool = False
    rounds: int = 5
    device: str = 'cpu'
    say: Callable[[str], None] = lambda text: None

    def pick(self, full, quick):
        """One of two, depending on how much to measure."""
        return quick if self.quick else full

    def wait(self) -> None:
        """Return when the device has nothing more to do."""
        if self.device == 'cuda':
            torch.cuda.synchronize()

    def compare(self,
                work: str,
                contestants: Mapping[str, Call],
                rounds: Optional[int] = None,
                numbers: Optional[Mapping[str, Number]] = None,
                memory: bool = False) -> List[Row]:
        """Time contestants in pairs.

        Args:
            work (str): What they do.
            contestants (Mapping[str, Callable]): By name; the first is the
                reference of the speed-ups.
            rounds (int, optional): In place of ``self.rounds``.
            numbers (Mapping[str, int | float | str], optional): Added to
                every row.
            memory (bool): Whether to measure the extra memory too, in one
                more call of each.

        Returns:
            list[Row]: One for each contestant.
        """
        timings = paired(
            contestants,
            rounds or self.rounds,
            at_least=self.pick(1.0, 0.1),
            wait=self.wait,
            progress=lambda name: self.say(f'{work}: {name}'))
        reference = next(iter(timings.values()))
        rows = []
        for name, timing in timings.items():
            row = Row(work, name, timing, numbers=dict(numbers or {}))
            if timing is not reference:
                row.speedup = speedup(reference, timing)
            if memory:
                self.say(f'{work}: memory of {name}')
                call = contestants[name]
                row.numbers['extra memory (MB)'] = (
                    call.extra_memory() if isinstance(call, Worker) else
                    extra_memory(call, self.device))
            rows.append(row)
        return rows


@dataclass
class Plot:
    """Growth of a figure, one line for each contestant, both axes in logs.

    Args:
        file (str): Name of the PNG.
        title (str): Above it.
        x (str): Key of ``Row.numbers``.
        y (str): 'ms' for the median time, or a key of ``Row.numbers``.
        only (Callable): Which rows take part.
    """

    file: str
    title: str
    x: str
    y: str = 'ms'
    only: Callable[[Row], bool] = lambda row: True


@dataclass
class Section:
    """A part of the benchmark that can be run alone.

    Args:
        name (str): For the command line.
        help (str): What it measures, in a sentence or two of Markdown; above
            its table.
        run (Callable[[Context], list[Row]]): Measures it.
        plots (tuple[Plot, ...]): Drawn of its rows.
        gpu (bool): Whether it needs a GPU. Others run on the CPU.
    """

    name: str
    help: str
    run: Callable[[Context], List[Row]]
    plots: Tuple[Plot, ...] = ()
    gpu: bool = False
