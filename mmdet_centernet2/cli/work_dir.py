"""The folder of a run: where it is, and one run at a time in it."""

from __future__ import annotations

import os
import socket
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config

from mmdet_centernet2.utils.errors import PreflightError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def work_dir_of(args: Namespace, cfg: Config) -> str:
    """Where mmdet's ``tools/train.py`` will work."""
    return args.work_dir or cfg.get('work_dir') or f'./work_dirs/{Path(args.config).stem}'


@contextmanager
def lock_work_dir(work_dir: str | Path) -> Iterator[None]:
    """Let one training at a time write into a folder, which is made.

    The first process of a run holds the lock; it ends with the process,
    however that ends. File systems that cannot lock are used without.
    """
    ranks = (os.environ.get('RANK'), os.environ.get('SLURM_PROCID'))
    if fcntl is None or any(int(rank or 0) for rank in ranks):
        yield
        return
    try:
        os.makedirs(work_dir, exist_ok=True)
        file = open(Path(work_dir, '.running'), 'a+')  # holds the process number of the last run
    except OSError as error:
        raise PreflightError(
            f'work_dir {work_dir} cannot be written to ({error.strerror}). '
            'Name another folder with --work-dir.'
        ) from error
    with file:
        try:
            # lockf, not flock: forked workers must not keep it
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            raise PreflightError(
                f'process {file.read().strip() or "(unknown)"} trains in work_dir {work_dir}. '
                'Wait until it ends, or name another folder with --work-dir.'
            ) from error
        except OSError:  # a network file system without locks
            pass
        file.truncate(0)
        file.write(f'{os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        yield
