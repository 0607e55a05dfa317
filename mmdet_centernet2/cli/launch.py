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
from datetime import timedelta

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from torch import distributed as torch_dist

from mmdet_centernet2.cli.checks import PreflightError, check_devices, dicts_in, load_config


def prepare_launch(args: Namespace) -> list[str]:
    """Get ready for the launcher that the arguments of an mmdet tool name.

    Returns:
        Arguments to add to the command line.
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
    needed = ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
    missing = [name for name in needed if name not in os.environ]
    if missing:
        raise PreflightError(
            '--launcher pytorch needs the variables that torchrun sets, and '
            f'{", ".join(missing)} is not there. Start several processes '
            'with tools/dist_train.sh CONFIG NUMBER.'
        )
    cfg = load_config(args)
    seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 1800)
    torch_dist.init_process_group('gloo', timeout=timedelta(seconds=seconds))
    return ['--cfg-options', *cpu_options(cfg)]


def cpu_options(cfg: Config) -> list[str]:
    """Config options, ``KEY=VALUE``, with which mmengine trains in several CPU processes.

    ``SyncBN`` becomes ``BN``, as mmengine does for a single process: torch has
    it for GPUs only.
    """
    wrapper = dict(device_ids=None)
    if cfg.get('model_wrapper_cfg') is None:
        # What mmengine itself would set (Runner.wrap_model).
        unused = cfg.get('find_unused_parameters', False)
        wrapper |= dict(
            type='MMDistributedDataParallel', broadcast_buffers=False, find_unused_parameters=unused
        )
    options = {f'model_wrapper_cfg.{key}': value for key, value in wrapper.items()}
    parts = dicts_in(cfg.get('model'), 'model')
    sync_bn = [key for key, part in parts if part.get('type') == 'SyncBN']
    if sync_bn:
        print_log(
            f'{", ".join(sync_bn)}: SyncBN needs GPUs. BN is used: each process takes the '
            'statistics of its own images.',
            'current',
            logging.WARNING,
        )
        options.update({f'{key}.type': 'BN' for key in sync_bn})
    return [f'{key}={value}' for key, value in options.items()]
