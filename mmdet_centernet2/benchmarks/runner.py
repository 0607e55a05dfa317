"""Sections, one after the other, each in a process of its own."""
from __future__ import annotations

import multiprocessing
import time
import traceback
from multiprocessing.connection import Connection
from typing import Callable, List, Tuple

from mmdet_centernet2.benchmarks.report import SectionResult
from mmdet_centernet2.benchmarks.section import Context, Row, Section


def run_section(section: Section, context: Context) -> SectionResult:
    """Run a section; an error becomes part of the result.

    What a section does to its process (memory that the C library keeps,
    compiled graphs, what the system's memory killer thinks of it) must not
    reach the next one, so those of the CPU run in a child. Those of the GPU
    do not: CUDA does not survive the way there.

    Args:
        section (Section): Which one.
        context (Context): How much to measure.
    """
    start = time.perf_counter()
    run = _run_here if section.gpu else _run_in_child
    rows, error = run(section, context)
    return SectionResult(section, rows, time.perf_counter() - start, error)


def _run_here(section: Section, context: Context) -> Tuple[List[Row], str]:
    """Rows, or why there are none."""
    try:
        return section.run(context), ''
    except Exception as error:  # the other sections shall not be lost
        traceback.print_exc()
        return [], f'{type(error).__name__}: {error}'


def _run_in_child(section: Section,
                  context: Context) -> Tuple[List[Row], str]:
    """The same in a fork, which need not import everything again.

    This process must not have started threads of its own: OpenMP's do not
    survive a fork. Sections are the only ones to compute.
    """
    fork = multiprocessing.get_context('fork')
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=_child, args=(section, context, sender))
    child.start()
    sender.close()
    result = _listen(receiver, context.say)
    child.join()
    if result is None:
        return [], f'its process ended with exit status {child.exitcode}'
    return result


def _listen(receiver: Connection, say: Callable[[str], None]):
    """Pass on progress until the result comes; None if none does."""
    while True:
        try:
            message = receiver.recv()
        except EOFError:
            return None
        if not isinstance(message, str):
            return message
        say(message)


def _child(section: Section, context: Context, sender: Connection) -> None:
    context.say = sender.send
    sender.send(_run_here(section, context))
