"""Check the data of a config before training; see --help."""

import sys

import mmdet_centernet2  # noqa: F401  registers the data sets
from mmdet_centernet2.cli.check_dataset import main
from mmdet_centernet2.cli.mmdet_tools import errors_as_exit

if __name__ == '__main__':
    with errors_as_exit():
        sys.exit(main())
