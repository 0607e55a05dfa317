"""Make labels for unlabelled images with any detector; see --help."""

import mmdet_centernet2  # noqa: F401  registers the models
from mmdet_centernet2.cli.mmdet_tools import errors_as_exit
from mmdet_centernet2.cli.pseudo_labels import main

if __name__ == '__main__':
    with errors_as_exit():
        main()
