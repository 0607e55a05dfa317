"""Measure speed: mmdet's benchmark tool, on a CPU too."""

from argparse import Namespace
from importlib.util import find_spec
from types import ModuleType

import mmdet_centernet2  # noqa: F401  registers the models
from mmdet_centernet2.checkpoint.match import require_full_match
from mmdet_centernet2.cli.checks import PreflightError, check_data, check_devices, load_config
from mmdet_centernet2.cli.mmdet_tools import accept_fast_option, errors_as_exit, run_mmdet_tool


def check_psutil() -> None:
    """mmdet's benchmark module cannot even be imported without it."""
    if find_spec('psutil') is None:
        raise PreflightError(
            'measuring needs psutil, which reads the memory in use. Install it: pip install psutil'
        )


def check(args: Namespace) -> None:
    """Check the data and the checkpoint that the task needs."""
    cfg = load_config(args)
    check_devices(args)
    split = 'test' if args.task == 'inference' else args.dataset_type
    check_data(cfg, [f'{split}_dataloader'], [])
    if args.checkpoint is not None:
        require_full_match(cfg, args.checkpoint)


def adapt(tool: ModuleType) -> None:
    """Let mmdet's tool use the classes that need no GPU, and ``--fast``."""
    from any_device import use_any_device

    use_any_device(tool)
    accept_fast_option(tool)


if __name__ == '__main__':
    with errors_as_exit():
        check_psutil()
    run_mmdet_tool('analysis_tools/benchmark.py', check, adapt)
