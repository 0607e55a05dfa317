"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
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
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f'.{path.name}.', delete=False
    ) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(file.name, 0o666 & ~mask)  # until here only for us
            os.replace(file.name, path)
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)  # the new name outlives a loss of power
            os.close(folder)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
