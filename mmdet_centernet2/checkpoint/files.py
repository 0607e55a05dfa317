"""Writing checkpoints whole or not at all."""

import os
import tempfile
from pathlib import Path
from typing import Any, Union

import torch

from .errors import CheckpointError


def check_target(dst: Union[str, Path], src: Union[str, Path],
                 overwrite: bool) -> None:
    """Refuse a place to write to before any work is done.

    Args:
        dst (str | Path): The file to be written.
        src (str | Path): The file that is read.
        overwrite (bool): Whether an existing file may be replaced.

    Raises:
        CheckpointError: if writing would lose something, or cannot succeed.
    """
    dst, src = Path(dst), Path(src)
    if dst.is_dir():
        raise CheckpointError(
            f'{dst}: is a folder; give the name of the file to write.')
    if not dst.parent.is_dir():
        raise CheckpointError(
            f'{dst}: the folder {dst.parent} does not exist; make it first.')
    if dst.exists() and src.exists() and dst.samefile(src):
        raise CheckpointError(
            f'{dst}: is the file that is read; give another name to write.')
    if dst.exists() and not overwrite:
        raise CheckpointError(
            f'{dst}: exists already; add --overwrite to replace it.')


def save_checkpoint(content: Any, dst: Union[str, Path]) -> None:
    """Write a checkpoint in one step: afterwards it is whole, or not there.

    Args:
        content: What ``torch.save`` takes.
        dst (str | Path): The file to be written; an existing one is
            replaced.

    Raises:
        CheckpointError: if it cannot be written.
    """
    dst = Path(dst)
    try:
        handle, name = tempfile.mkstemp(
            dir=dst.parent, prefix=f'.{dst.name}.', suffix='.part')
    except OSError as error:
        raise _not_written(dst, error) from error
    try:
        with os.fdopen(handle, 'wb') as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp lets only us read
        os.replace(name, dst)
    # torch reports a full disk as a RuntimeError.
    except (OSError, RuntimeError) as error:
        raise _not_written(dst, error) from error
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _not_written(dst: Path, error: Exception) -> CheckpointError:
    reason = getattr(error, 'strerror', None) or error
    return CheckpointError(f'{dst}: cannot be written: {reason}')
