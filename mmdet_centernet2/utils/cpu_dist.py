"""Several processes on a machine without a GPU.

mmengine's launchers call ``torch.cuda.set_device`` and pass a GPU index to
``DistributedDataParallel`` in any case, so without a GPU neither works. Both
can be settled from outside: mmengine keeps a process group that is already
there, and a config may name the arguments of the model wrapper.
"""
from __future__ import annotations

import os
from argparse import Namespace
from datetime import timedelta

from mmengine.config import Config
from mmengine.device import get_device
from torch import distributed as torch_dist

from mmdet_centernet2.utils.preflight import (PreflightError, check_devices,
                                              load_config)


def prepare_launch(args: Namespace) -> list[str]:
    """Get ready for the launcher that the user named.

    Args:
        args (Namespace): Parsed arguments of an mmdet tool; those without
            ``launcher`` run as one process.

    Returns:
        list[str]: Arguments to add to the command line: none where a GPU is
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
            'On CPUs use tools/dist_train.sh or tools/dist_test.sh.')
    cfg = load_config(args)
    _join_gloo_group(cfg)
    return ['--cfg-options', *_cpu_wrapper_options(cfg)]


def close_launch() -> None:
    """Leave the process group, where there is one."""
    if torch_dist.is_initialized():
        torch_dist.destroy_process_group()


def _join_gloo_group(cfg: Config) -> None:
    missing = [
        name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
        if name not in os.environ
    ]
    if missing:
        raise PreflightError(
            '--launcher pytorch needs the variables that torchrun sets, and '
            f'{", ".join(missing)} is not there. Start several processes '
            'with tools/dist_train.sh CONFIG NUMBER.')
    seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 1800)
    torch_dist.init_process_group('gloo', timeout=timedelta(seconds=seconds))


def _cpu_wrapper_options(cfg: Config) -> list[str]:
    """Config options that make mmengine wrap a model on the CPU."""
    options = dict(device_ids=None)
    if cfg.get('model_wrapper_cfg') is None:
        # What mmengine itself would set (Runner.wrap_model).
        options.update(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False))
    return [f'model_wrapper_cfg.{key}={value}'
            for key, value in options.items()]
