"""Run the tools that mmdet ships inside its package, with our models and checks."""

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
from torch import distributed as torch_dist
from torch.distributed.elastic.multiprocessing.errors import record

from mmdet_centernet2.cli.launch import prepare_launch
from mmdet_centernet2.engine.runner import BriefRunner
from mmdet_centernet2.utils.errors import PreflightError, UserError

# Of packages that we build on; all configs ask for pin_memory, which does no harm on a CPU.
_USELESS_WARNINGS = ('.*pkg_resources', "'pin_memory' argument is set as true but no accelerator")
# A full or read-only disk, missing permission.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


def find_mmdet_tool(relative: str) -> Path:
    """Find a file of mmdet's ``tools`` folder, installed or in a clone."""
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


def run_mmdet_tool(
    relative: str,
    check: Callable[[Namespace], AbstractContextManager | None] | None = None,
    adapt: Callable[[ModuleType], None] | None = None,
) -> None:
    """Run one of mmdet's tools on this process' command line, with :class:`BriefRunner`.

    Args:
        relative: Path below mmdet's ``tools`` folder.
        check: Gets the arguments that the tool's own parser read and raises
            :class:`UserError` when the run cannot work. What it returns is
            entered while the tool runs.
        adapt: Gets the tool's module before it runs, to put our classes in
            the place of mmdet's.
    """
    with errors_as_exit():
        for message in _USELESS_WARNINGS:
            warnings.filterwarnings('ignore', message)
        path = find_mmdet_tool(relative)
        spec = importlib.util.spec_from_file_location(f'mmdet_tool_{path.stem}', path)
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        if hasattr(tool, 'Runner'):
            tool.Runner = BriefRunner
        if adapt is not None:
            adapt(tool)
        args = tool.parse_args()
        held = check(args) if check is not None else None
        extra = prepare_launch(args)
    sys.argv += extra
    with errors_as_exit(), held or nullcontext():
        # so that torchrun's last words name the error
        record(tool.main)()
    if torch_dist.is_initialized():
        torch_dist.destroy_process_group()


@contextmanager
def errors_as_exit(*kinds: type[Exception]) -> Iterator[None]:
    """Turn errors meant for the user, and those of ``kinds``, into one message and status 2."""
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
