"""Train a detector: mmdet's tools/train.py with our models and checks."""

import mmdet_centernet2  # noqa: F401  registers the models
from mmdet_centernet2.cli.checks import check_train
from mmdet_centernet2.cli.mmdet_tools import run_mmdet_tool

if __name__ == '__main__':
    run_mmdet_tool('train.py', check=check_train)
