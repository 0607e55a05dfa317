"""Quantise the backbone and the neck of an exported model to INT8.

With --config, the precision of both files on that config's test data and
their times are reported.
"""

import argparse
import json
import logging
import time
from pathlib import Path

import numpy as np
from mmdet.utils import register_all_modules
from mmengine.config import DictAction
from mmengine.logging import MMLogger

from mmdet_centernet2.cli.checks import check_data, load_config
from mmdet_centernet2.cli.mmdet_tools import errors_as_exit
from mmdet_centernet2.deploy.parity import TestImages, average_precision, exported_finder, find_all
from mmdet_centernet2.deploy.quantize import METHODS, quantize
from mmdet_centernet2.runtime import DeployedModelError, Detector
from mmdet_centernet2.runtime.images import list_images


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('model', type=Path, help='file that tools/deploy.py wrote')
    add('images', help='folder with images to calibrate with; not those to evaluate on')
    add('--out', type=Path, help='file to write; the model with -int8 in its name by default')
    add('--num-images', type=int, default=32, help='calibrate with so many, evenly chosen')
    add('--method', default='minmax', choices=sorted(METHODS), help='of choosing ranges')
    add('--config', help='evaluate both files on the test data of this config')
    add('--cfg-options', nargs='+', action=DictAction, help='change the config, key=value')
    add('--threads', type=int, help='threads of the CPU')
    add('--rounds', type=int, default=15, help='how often both are timed')
    add('--report', type=Path, help='write a JSON report')
    return parser.parse_args()


def timings(calls: dict, rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of each call, in turn; the first three rounds do not count."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 3):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(1000 * (time.perf_counter() - start))
    return {name: np.array(values[3:]) for name, values in taken.items()}


def evaluate(args: argparse.Namespace, cfg) -> dict:
    """AP and time of both files, on the same images, in turn."""
    detectors = {
        'float32': Detector(args.model, threads=args.threads),
        'INT8': Detector(args.out, threads=args.threads),
    }
    images = TestImages(cfg)
    finders = {n: exported_finder(d) for n, d in detectors.items()}
    found = find_all(finders, images)
    first = images.dataset[0]['data_samples'].img_path
    prepared = next(iter(detectors.values())).prepare(first)
    taken = timings(
        {name: lambda d=d: d.session(d.feeds([prepared])) for name, d in detectors.items()},
        args.rounds,
    )
    return {
        name: dict(
            ap=average_precision(cfg, images, found[name]),
            milliseconds=float(np.median(taken[name])),
            quartiles=np.percentile(taken[name], (25, 75)).tolist(),
            speedup=float(np.median(taken['float32'] / taken[name])),
            megabytes=path.stat().st_size / 1e6,
        )
        for name, path in zip(detectors, (args.model, args.out))
    }


def show(report: dict) -> None:
    """Print the result of :func:`evaluate`."""
    for name, row in report.items():
        low, high = row['quartiles']
        print(
            f'{name:8} {row["milliseconds"]:.1f} ms ({low:.1f} to '
            f'{high:.1f}), {row["speedup"]:.2f} times as fast, '
            f'{row["megabytes"]:.1f} MB'
        )
    for key, value in report['float32']['ap'].items():
        other = report['INT8']['ap'][key]
        print(f'{key:22} {value:.3f} -> {other:.3f} ({other - value:+.3f})')


def run(args: argparse.Namespace) -> None:
    cfg = load_config(args) if args.config else None
    if cfg is not None:
        check_data(cfg, ['test_dataloader'], ['test_evaluator'])
    args.out = args.out or args.model.with_name(f'{args.model.stem}-int8.onnx')
    images = list_images(args.images)
    step = max(1, -(-len(images) // args.num_images))
    number = quantize(args.model, args.out, images[::step], args.method)
    print(f'{number} convolutions are INT8 now, see {args.out.absolute()}.')
    if cfg is not None:
        report = evaluate(args, cfg)
        show(report)
        if args.report is not None:
            args.report.write_text(json.dumps(report, indent=1) + '\n')


def main() -> None:
    args = parse_args()
    register_all_modules()
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    with errors_as_exit(DeployedModelError):
        run(args)


if __name__ == '__main__':
    main()
