"""Measure speed and memory: ours, mmdet's detectors, dense methods.

    tools/analysis_tools/speed.py [--quick] [--sections NAME ...]

Contestants take turns in one run. Writes speed.json, speed.md and the plots
into --out-dir after every section, so that nothing is lost when it is stopped.
What is measured and how to read it: docs/speed.md.
"""
import os

# torch's profiler, which counts memory, announces itself otherwise
os.environ.setdefault('KINETO_LOG_LEVEL', '99')

import shlex  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402
from argparse import (ArgumentParser, Namespace,  # noqa: E402
                      RawDescriptionHelpFormatter)
from pathlib import Path  # noqa: E402

import torch  # noqa: E402
from mmdet.utils import register_all_modules  # noqa: E402

import mmdet_centernet2  # noqa: E402, F401  registers the models
from mmdet_centernet2.benchmarks.main import measure  # noqa: E402
from mmdet_centernet2.benchmarks.sections import SECTIONS  # noqa: E402


def parse_args() -> Namespace:
    """Read the command line."""
    names = '\n'.join(f'  {name:<13} {section.help}'
                      for name, section in SECTIONS.items())
    parser = ArgumentParser(
        description=__doc__, formatter_class=RawDescriptionHelpFormatter,
        epilog=f'sections:\n{names}')
    parser.add_argument(
        '--sections', nargs='+', choices=SECTIONS, metavar='NAME',
        help='what to measure; default: all that this machine can')
    parser.add_argument(
        '--quick', action='store_true',
        help='everything in small, within three minutes on two cores')
    parser.add_argument(
        '--rounds', type=int,
        help='timed calls of each contestant; default: 5, quick: 2')
    parser.add_argument(
        '--threads', type=int, help='of torch; default: its own choice')
    parser.add_argument(
        '--out-dir', type=Path, default=Path('work_dirs/speed'),
        help='for speed.json, speed.md and images/')
    parser.add_argument(
        '--write-docs', type=Path, metavar='SPEED.MD',
        help='also fill the marked blocks of this document, and put the '
        'plots into images/ beside it')
    args = parser.parse_args()
    if args.rounds is not None and args.rounds < 1:
        parser.error(f'--rounds must be at least 1, got {args.rounds}')
    if args.write_docs is not None and not args.write_docs.is_file():
        parser.error(f'--write-docs: there is no file {args.write_docs}')
    return args


def main() -> int:
    """Measure what was asked for.

    Returns:
        int: 1 if a section failed.
    """
    args = parse_args()
    warnings.filterwarnings('ignore')  # of the libraries, for every child
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    register_all_modules(init_default_scope=True)
    command = 'python ' + shlex.join(sys.argv)
    return measure(args, command)


if __name__ == '__main__':
    sys.exit(main())
