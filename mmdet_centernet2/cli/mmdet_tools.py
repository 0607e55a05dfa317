"""Run the command line tools of the installed mmdet with our additions.

mmdet ships its ``tools/`` inside the package. Ours are the same programs with
our models registered and our checks in front, so they call mmdet's instead of
repeating them.
"""

from __future__ import annotations

import errno
import importlib.util
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import mmdet
from torch.distributed.elastic.multiprocessing.errors import record

from mmdet_centernet2.cli.launch import close_launch, prepare_launch
from mmdet_centernet2.engine.runner import BriefRunner
from mmdet_centernet2.utils.errors import PreflightError, UserError

#: Of packages that we build on; a user can do nothing about them.
USELESS_WARNINGS = (
    '.*pkg_resources',
    # all configs ask for it, which does no harm on a CPU
    "'pin_memory' argument is set as true but no accelerator",
)
# A full or read-only disk, missing permission.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


def find_mmdet_tool(relative: str) -> Path:
    """Find a file of mmdet's ``tools`` folder, installed or in a clone.

    Raises:
        PreflightError: If this mmdet was installed without its tools.
    """
    package = Path(mmdet.__file__).resolve().parent
    folders = (package / '.mim' / 'tools', package.parent / 'tools')
    for folder in folders:
        if (folder / relative).is_file():
            return folder / relative
    raise PreflightError(
        f'this mmdet ({mmdet.__version__}) came without its tools: '
        f'{relative} is neither in {folders[0]} nor in {folders[1]}. '
        "Install mmdet from its wheel (pip install 'mmdet==3.3.0'), or from "
        'a full clone with pip install -e .'
    )


def load_mmdet_tool(relative: str) -> ModuleType:
    """Import a file of mmdet's ``tools`` folder, without running it.

    Raises:
        PreflightError: If the tool is not there.
    """
    path = find_mmdet_tool(relative)
    spec = importlib.util.spec_from_file_location(f'mmdet_tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_mmdet_tool(
    relative: str,
    check: Callable[[Namespace], AbstractContextManager | None] | None = None,
    adapt: Callable[[ModuleType], None] | None = None,
) -> None:
    """Run one of mmdet's tools on this process' command line.

    The tool's own parser reads the arguments, ``check`` looks at them, and
    then the tool's ``main`` does its work, with a runner that says less on
    the terminal (:class:`BriefRunner`). A problem that a check finds ends the
    program with its message alone and exit status 2.

    Args:
        relative: Path below mmdet's ``tools`` folder.
        check: Gets the parsed arguments and raises
            :class:`UserError` when the run cannot work. What it returns is
            entered while the tool runs.
        adapt: Gets the tool's module before it runs, to put our classes in
            the place of mmdet's.
    """
    with errors_as_exit():
        for message in USELESS_WARNINGS:
            warnings.filterwarnings('ignore', message)
        tool = load_mmdet_tool(relative)
        if hasattr(tool, 'Runner'):
            tool.Runner = BriefRunner
        if adapt is not None:
            adapt(tool)
        args = tool.parse_args()
        held = check(args) if check is not None else None
        extra = prepare_launch(args)
    with _extended_argv(extra), errors_as_exit(), held or nullcontext():
        # so that torchrun's last words name the error
        record(tool.main)()
    close_launch()


@contextmanager
def errors_as_exit(*kinds: type[Exception]) -> Iterator[None]:
    """Turn an error meant for the user into one message, without a trace.

    Args:
        *kinds: Further errors that are meant for the user.
    """
    try:
        yield
    except (UserError, *kinds) as error:
        _exit(error)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = f'{error.filename}: ' if error.filename else ''
        _exit(
            UserError(
                f'{where}{error.strerror}. Mend it or choose another folder; what was saved before '
                'is still there, and train.py --resume goes on from it.'
            )
        )


def _exit(error: Exception) -> NoReturn:
    text = str(error)
    if 'Original Traceback' in text:  # it comes from a worker of a loader
        text = text.rstrip().splitlines()[-1].partition(': ')[2]
    print(f'{Path(sys.argv[0]).name}: error: {text}', file=sys.stderr)
    raise SystemExit(2) from error


@contextmanager
def _extended_argv(extra: list[str]) -> Iterator[None]:
    """Add arguments to the command line for the time of the block."""
    before = sys.argv
    sys.argv = [*before, *extra]
    try:
        yield
    finally:
        sys.argv = before
