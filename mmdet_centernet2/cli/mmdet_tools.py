"""Run the tools that mmdet ships inside its package, with our models and checks."""

from __future__ import annotations

import errno
import importlib.util
import logging
import os
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import mmdet
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from torch import distributed as torch_dist
from torch.distributed.elastic.multiprocessing.errors import record

from mmdet_centernet2.checkpoint.match import dicts_in
from mmdet_centernet2.cli.checks import load_config
from mmdet_centernet2.engine.hooks.fast_inference import MODES
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
        prepare_launch(args)
        tool.parse_args = lambda: args
        with held or nullcontext():
            record(tool.main)()  # torchrun's last words then name the error
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
    print(f'{Path(sys.argv[0]).name}: error: {message_of(error)}', file=sys.stderr)
    raise SystemExit(2) from error


def message_of(error: Exception) -> str:
    """The message of an error, without the trace that a worker of a data loader puts before it."""
    text = str(error)
    traced = 'Original Traceback' in text
    return text.rstrip().splitlines()[-1].partition(': ')[2] if traced else text


# -----several processes-----
def prepare_launch(args: Namespace) -> None:
    """Get ready for the launcher of an mmdet tool, and adapt its ``cfg_options`` to CPUs.

    On CPUs, mmengine's launchers fail: they call ``torch.cuda.set_device`` and pass a GPU
    index to ``DistributedDataParallel``. It keeps a process group that is already there,
    and a config may name the arguments of the model wrapper.
    """
    launcher = getattr(args, 'launcher', 'none')
    needed = ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
    missing = [name for name in needed if name not in os.environ]
    if launcher == 'pytorch' and missing:
        raise PreflightError(
            '--launcher pytorch needs the variables that torchrun sets, and '
            f'{", ".join(missing)} is not there. Start several processes '
            'with tools/dist_train.sh CONFIG NUMBER.'
        )
    if launcher == 'none' or get_device() != 'cpu':
        return
    if launcher != 'pytorch':
        raise PreflightError(
            f'--launcher {launcher} needs GPUs and this machine shows none. '
            'On CPUs use tools/dist_train.sh or tools/dist_test.sh.'
        )
    cfg = load_config(args)
    seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 1800)
    torch_dist.init_process_group('gloo', timeout=timedelta(seconds=seconds))
    args.cfg_options = {**(args.cfg_options or {}), **cpu_options(cfg)}


def cpu_options(cfg: Config) -> dict[str, Any]:
    """Config options, for ``merge_from_dict``, to train in several CPU processes.

    ``SyncBN`` becomes ``BN``, as mmengine does for a single process: torch has
    it for GPUs only.
    """
    usual = dict(  # as in mmengine's Runner.wrap_model
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    options = dict(model_wrapper_cfg=dict(cfg.get('model_wrapper_cfg') or usual, device_ids=None))
    parts = dicts_in(cfg.get('model'), 'model')
    sync_bn = [key for key, part in parts if part.get('type') == 'SyncBN']
    if sync_bn:
        print_log(
            f'{", ".join(sync_bn)}: SyncBN needs GPUs. BN is used: each process takes the '
            'statistics of its own images.',
            'current',
            logging.WARNING,
        )
    return options | {f'{key}.type': 'BN' for key in sync_bn}


# -----fast inference-----
def add_fast_argument(parser: ArgumentParser) -> None:
    """Add ``--fast {exact,bf16}`` to a parser."""
    parser.add_argument(
        '--fast',
        choices=list(MODES),
        help='detect faster: with the same numbers (to 1e-6), or in bfloat16 (see docs/tools.md)',
    )


def accept_fast_option(tool: ModuleType) -> None:
    """Let one of mmdet's tools accept ``--fast``: a ``FastInferenceHook`` behind other hooks."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    add_fast_argument(parser)
    ours, sys.argv[1:] = parser.parse_known_args()
    parse_tool = tool.parse_args

    def parse_args() -> Namespace:
        args = parse_tool()
        if ours.fast:
            hooks = load_config(args).get('custom_hooks', [])
            hooks = [*hooks, dict(type='FastInferenceHook', mode=ours.fast)]
            args.cfg_options = dict(args.cfg_options or {}, custom_hooks=hooks)
        return args

    tool.parse_args = parse_args
