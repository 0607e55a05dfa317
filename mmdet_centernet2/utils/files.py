"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def write_atomically(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name only once everything is written.

    Args:
        path: The file to write; an existing one is replaced.

    Yields:
        The file beside it to write to. It is removed if something fails.

    Raises:
        OSError: If the file cannot be written.
    """
    path = Path(path)
    # eight digits: SafeCheckpointHook knows by them what a killed run left
    part = path.with_name(f'.{path.name}.{os.getpid():08}')
    try:
        with part.open('wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name outlives a loss of power
    finally:
        os.close(folder)
