"""Quantise the backbone and the neck of an exported model to INT8.

With --config, the precision of both files on that config's test data is
reported, and their times for a whole image, reading included.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from mmengine.config import DictAction

from mmdet_centernet2.cli.checks import check_data, load_config
from mmdet_centernet2.cli.deploy import quietly
from mmdet_centernet2.deploy import parity
from mmdet_centernet2.deploy.quantize import quantize
from mmdet_centernet2.runtime import Detector
from mmdet_centernet2.runtime.images import list_images


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('model', type=Path, help='file that tools/deploy.py wrote')
    add('images', help='folder with images to calibrate with; not those to evaluate on')
    add('--out', type=Path, help='file to write; the model with -int8 in its name by default')
    add('--num-images', type=int, default=32, help='calibrate with so many, evenly chosen')
    add('--config', help='evaluate both files on the test data of this config')
    add('--cfg-options', nargs='+', action=DictAction, help='change the config, key=value')
    add('--threads', type=int, help='threads of the CPU')
    add('--report', type=Path, help='write a JSON report')
    return parser.parse_args()


def evaluate(args: argparse.Namespace, cfg) -> dict:
    """AP and time of both files, on the same images, in turn."""
    files = {'float32': args.model, 'INT8': args.out}
    finders = {
        name: parity.exported_finder(Detector(path, threads=args.threads))
        for name, path in files.items()
    }
    images = parity.test_images(cfg)
    found, seconds = parity.find_all(finders, images)
    taken = {name: 1000 * np.array(each) for name, each in seconds.items()}
    return {
        name: dict(
            ap=parity.average_precision(cfg, images, found[name]),
            milliseconds=float(np.median(taken[name])),
            quartiles=np.percentile(taken[name], (25, 75)).tolist(),
            speedup=float(np.median(taken['float32'] / taken[name])),
            megabytes=path.stat().st_size / 1e6,
        )
        for name, path in files.items()
    }


def show(report: dict) -> None:
    """Print the result of :func:`evaluate`."""
    for name, row in report.items():
        low, high = row['quartiles']
        print(
            f'{name:8} {row["milliseconds"]:.1f} ms an image ({low:.1f} to {high:.1f}), '
            f'{row["speedup"]:.2f} times as fast, {row["megabytes"]:.1f} MB'
        )
    for key, value in report['float32']['ap'].items():
        other = report['INT8']['ap'][key]
        print(f'{key:22} {value:.3f} -> {other:.3f} ({other - value:+.3f})')


def main() -> None:
    args = parse_args()
    with quietly():
        cfg = load_config(args) if args.config else None
        if cfg is not None:
            check_data(cfg, ['test_dataloader'], ['test_evaluator'])
        args.out = args.out or args.model.with_name(f'{args.model.stem}-int8.onnx')
        images = list_images(args.images)
        step = max(1, -(-len(images) // args.num_images))
        number = quantize(args.model, args.out, images[::step])
        print(f'{number} convolutions are INT8 now, see {args.out.absolute()}.')
        if cfg is not None:
            report = evaluate(args, cfg)
            show(report)
            if args.report is not None:
                args.report.write_text(json.dumps(report, indent=1) + '\n')


if __name__ == '__main__':
    main()
