"""Test a detector: mmdet's tools/test.py with our models and checks."""

import mmdet_centernet2  # noqa: F401  registers the models
from mmdet_centernet2.cli.checks import check_test
from mmdet_centernet2.cli.mmdet_tools import accept_fast_option, run_mmdet_tool

if __name__ == '__main__':
    run_mmdet_tool('test.py', check_test, accept_fast_option)
