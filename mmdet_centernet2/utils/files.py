"""Writing files whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

#: Seconds after which a scratch folder is nobody's.
_OLD = 24 * 3600


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


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder for files in the making, removed at the end.

    What killed runs left is removed, too, once it is a day old.

    Args:
        parent: Where it is made; exists.
        prefix: Start of its name, and of those that others left.

    Yields:
        The folder, empty.
    """
    for left in parent.glob(f'{prefix}*'):
        if time.time() - left.stat().st_mtime > _OLD:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        dir=parent, prefix=prefix, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)
