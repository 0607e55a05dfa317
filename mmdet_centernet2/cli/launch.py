"""Several processes on a machine without a GPU.

mmengine's launchers call ``torch.cuda.set_device`` and pass a GPU index to
``DistributedDataParallel`` in any case, so without a GPU neither works. Both
can be settled from outside: mmengine keeps a process group that is already
there, and a config may name the arguments of the model wrapper.
"""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import Iterator
from datetime import timedelta

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from torch import distributed as torch_dist

from mmdet_centernet2.cli.checks import PreflightError, check_devices, dicts_of, load_config


def prepare_launch(args: Namespace) -> list[str]:
    """Get ready for the launcher that the arguments of an mmdet tool name.

    Returns:
        Arguments to add to the command line: none where a GPU is
        there or only one process runs.

    Raises:
        PreflightError: If the launcher cannot work on this machine.
    """
    launcher = getattr(args, 'launcher', 'none')
    if launcher == 'none':
        return []
    check_devices(args)
    if get_device() != 'cpu':
        return []
    if launcher != 'pytorch':
        raise PreflightError(
            f'--launcher {launcher} needs GPUs and this machine shows none. '
            'On CPUs use tools/dist_train.sh or tools/dist_test.sh.'
        )
    cfg = load_config(args)
    _join_gloo_group(cfg)
    return ['--cfg-options', *cpu_options(cfg)]


def close_launch() -> None:
    """Leave the process group, where there is one."""
    if torch_dist.is_initialized():
        torch_dist.destroy_process_group()


def _join_gloo_group(cfg: Config) -> None:
    needed = ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
    missing = [name for name in needed if name not in os.environ]
    if missing:
        raise PreflightError(
            '--launcher pytorch needs the variables that torchrun sets, and '
            f'{", ".join(missing)} is not there. Start several processes '
            'with tools/dist_train.sh CONFIG NUMBER.'
        )
    seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 1800)
    torch_dist.init_process_group('gloo', timeout=timedelta(seconds=seconds))


def cpu_options(cfg: Config) -> list[str]:
    """Config options with which mmengine trains in several CPU processes.

    ``SyncBN`` becomes ``BN``, as mmengine does for a single process: torch has
    it for GPUs only.

    Returns:
        As ``KEY=VALUE``.
    """
    options = {'model_wrapper_cfg.device_ids': None}
    if cfg.get('model_wrapper_cfg') is None:
        # What mmengine itself would set (Runner.wrap_model).
        unused = cfg.get('find_unused_parameters', False)
        options.update(
            {
                'model_wrapper_cfg.type': 'MMDistributedDataParallel',
                'model_wrapper_cfg.broadcast_buffers': False,
                'model_wrapper_cfg.find_unused_parameters': unused,
            }
        )
    sync_bn = list(_sync_bn_keys(cfg.get('model') or {}, 'model'))
    if sync_bn:
        print_log(
            f'{", ".join(sync_bn)}: SyncBN needs GPUs. BN is used: each process takes the '
            'statistics of its own images.',
            'current',
            logging.WARNING,
        )
        options.update({f'{key}.type': 'BN' for key in sync_bn})
    return [f'{key}={value}' for key, value in options.items()]


def _sync_bn_keys(node: dict, key: str) -> Iterator[str]:
    if node.get('type') == 'SyncBN':
        yield key
    for name, value in node.items():
        for place, part in dicts_of(value, f'{key}.{name}'):
            yield from _sync_bn_keys(part, place)
