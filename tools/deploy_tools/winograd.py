"""Make float32 convolutions of an exported model faster on CPUs, for onnxruntime.

The results are the same but for rounding. The file becomes up to twice as large.
"""

import argparse
from pathlib import Path

from mmdet_centernet2.cli.deploy import quietly
from mmdet_centernet2.deploy.winograd import MIN_CHANNELS, winograd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('model', type=Path, help='file that tools/deploy.py or quantize.py wrote')
    add('--out', type=Path, help='file to write; the model with -winograd in its name by default')
    fewer = 'leave convolutions with fewer, which gain nothing (default: %(default)s)'
    add('--min-channels', type=int, default=MIN_CHANNELS, help=fewer)
    args = parser.parse_args()
    with quietly():
        out = args.out or args.model.with_name(f'{args.model.stem}-winograd.onnx')
        number = winograd(args.model, out, args.min_channels)
        print(f'{number} convolutions are replaced, see {out.absolute()}.')


if __name__ == '__main__':
    main()
