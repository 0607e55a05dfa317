"""Contestants in processes of their own, to be timed in turn with others."""
from __future__ import annotations

import multiprocessing
import traceback
from multiprocessing.connection import Connection
from typing import Any, Callable, Dict

from mmdet_centernet2.benchmarks.memory import extra_memory


class WorkerError(RuntimeError):
    """A contestant failed in its process; the message is the trace there."""


class Worker:
    """A call that is made in another process.

    For settings that a process cannot undo, or that would help the other
    contestants too. While one works the others sleep.

    It is a fork: make all workers before this process computes anything, see
    :mod:`mmdet_centernet2.benchmarks.runner`.

    Args:
        make (Callable): Run over there once; returns what is to be called.
    """

    def __init__(self, make: Callable[[], Callable[[], Any]]) -> None:
        fork = multiprocessing.get_context('fork')
        self._pipe, there = fork.Pipe()
        self._process = fork.Process(
            target=_serve, args=(make, there), daemon=True)
        self._process.start()
        there.close()

    def __call__(self) -> Any:
        """Call it once.

        Returns:
            Any: What it returned, if that can be sent.

        Raises:
            WorkerError: If it failed there.
        """
        return self._ask('call')

    def extra_memory(self) -> float:
        """Peak memory of one more call, see :mod:`.memory`, in MB."""
        return self._ask('memory')

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()

    def _ask(self, what: str) -> Any:
        self._pipe.send(what)
        try:
            failed, answer = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join()
            raise WorkerError(
                'a contestant\'s process ended with exit status '
                f'{self._process.exitcode}') from error
        if failed:
            raise WorkerError(answer)
        return answer


def drop_failures(workers: Dict[str, Worker],
                  say: Callable[[str], None]) -> Dict[str, str]:
    """Call each once; one that cannot do it shall not cost the others.

    Args:
        workers (dict[str, Worker]): By name; those that fail are stopped and
            removed.
        say (Callable): Shows a line of progress.

    Returns:
        dict[str, str]: Last line of the trace of those that failed.
    """
    failures = {}
    for name in list(workers):
        say(f'first call of {name}')
        try:
            workers[name]()
        except WorkerError as error:
            failures[name] = str(error).strip().splitlines()[-1]
            workers.pop(name).stop()
    return failures


def _serve(make: Callable[[], Callable[[], Any]], pipe: Connection) -> None:
    """What the other process does."""
    call = None
    while True:
        what = pipe.recv()
        try:
            call = call or make()
            answer = call() if what == 'call' else extra_memory(call)
            pipe.send((False, answer))
        except Exception:  # to be raised where it was asked for
            pipe.send((True, traceback.format_exc()))
