"""mmengine's runner, with a terminal that one can read."""

from __future__ import annotations

import logging
import os.path as osp
import re
from typing import Any

import mmdet
import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.logging import MMLogger, print_log
from mmengine.runner import Runner
from torch.utils.data import DataLoader

#: Messages that only the log file keeps.
LOG_FILE_ONLY = re.compile(
    r'\n-+\nSystem environment:'
    r'|Config:\n'
    r'|Hooks will be executed in the following order:'
    r'|paramwise_options -- '
    r'|\S+ is skipped since its requires_grad=False'
    r'|Distributed training is not used, all SyncBatchNorm'
    r'|"FileClient" will be deprecated'
    r'|"HardDiskBackend" is the alias'
)
#: Classes that are named when a data set is loaded.
MAX_NAMES = 10


def _reraise(record: logging.LogRecord) -> None:
    """A full disk ends the run; logging would print a trace for each line."""
    raise  # noqa: PLE0704  logging calls this while it handles the error


class BriefRunner(Runner):
    """Shows on the terminal what a user looks for, not several hundred lines.

    The environment, the merged config, the table of hooks and the options of
    single parameters are in the log file. The terminal says where that is,
    and what data is read.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build mmengine's logger, its terminal with a filter."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handleError = _reraise
            else:
                handler.addFilter(lambda record: not LOG_FILE_ONLY.match(record.getMessage()))
        logger.info(
            f'mmdet {mmdet.__version__}, torch {torch.__version__}, device {get_device()}, '
            f'{get_world_size()} process(es), seed {self.seed}'
        )
        config = osp.basename(self.cfg.filename or f'{self.timestamp}.py')
        logger.info(f'Merged config: {osp.join(self.work_dir, config)}')
        logger.info(
            'Log with the environment, the hooks and the options of '
            f'each parameter: {logger.log_file}'
        )
        return logger

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader:
        """Build a data loader and say what is in its data set."""
        loader = Runner.build_dataloader(*args, **kwargs)
        dataset = loader.dataset
        classes = getattr(dataset, 'metainfo', {}).get('classes', ())
        names = [*classes[:MAX_NAMES], *['...'] * (len(classes) > MAX_NAMES)]
        print_log(
            f'{getattr(dataset, "ann_file", type(dataset).__name__)}: {len(dataset)} images, '
            f'{len(classes)} classes ({", ".join(names)})',
            'current',
        )
        return loader
