#!/usr/bin/env python
"""Convert a checkpoint of the original CenterNet2 to mmdet, or back.

See docs/convert.md, or run it with ``--help``.
"""

import sys

from mmdet_centernet2.cli.convert import main

if __name__ == '__main__':
    sys.exit(main())
