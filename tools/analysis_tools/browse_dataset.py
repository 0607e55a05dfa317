"""Look at the training data: mmdet's browse_dataset with our checks."""

import os
import sys
from argparse import Namespace

import mmdet_centernet2  # noqa: F401  registers the data sets
from mmdet_centernet2.cli.checks import PreflightError, check_data, load_config
from mmdet_centernet2.cli.mmdet_tools import run_mmdet_tool


def check(args: Namespace) -> None:
    """Check that the data is there, and a screen where one is needed."""
    check_data(load_config(args), ['train_dataloader'], [])
    screens = ('DISPLAY', 'WAYLAND_DISPLAY')
    if (
        not args.not_show
        and sys.platform.startswith('linux')
        and not any(os.environ.get(name) for name in screens)
    ):
        raise PreflightError(
            'there is no screen to show pictures on. Write them to a folder: '
            '--not-show --output-dir FOLDER'
        )


if __name__ == '__main__':
    run_mmdet_tool('analysis_tools/browse_dataset.py', check)
