"""The command line of ``tools/analysis_tools/speed.py``."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

import torch
import torch._dynamo  # noqa: F401  else every process imports it with its first optimizer
from mmdet.utils import register_all_modules

import mmdet_centernet2  # noqa: F401  registers the models

from . import report, sections  # noqa: F401  registers the sections
from .machine import environment, has_gpu
from .section import SECTIONS, Context, say


def parse_args(description: str, argv: Sequence[str] | None) -> Namespace:
    """Read the command line."""
    names = '\n'.join(f'  {name:<13} {section.help}' for name, section in SECTIONS.items())
    parser = ArgumentParser(
        description=description,
        formatter_class=RawDescriptionHelpFormatter,
        epilog=f'sections:\n{names}',
    )
    add, what = parser.add_argument, 'default: all that this machine can'
    add('--sections', nargs='+', choices=SECTIONS, metavar='NAME', help=what)
    add('--quick', action='store_true', help='everything in small: about a minute on two cores')
    add('--rounds', type=int, help='timed calls of each contestant; default: 5, quick: 2')
    add('--threads', type=int, help='of torch; default: its own choice')
    add('--out-dir', type=Path, default=Path('work_dirs/speed'), help='default: %(default)s')
    docs = 'also fill the marked blocks of this document, and images/ beside it'
    add('--write-docs', type=Path, metavar='SPEED.MD', help=docs)
    args = parser.parse_args(argv)
    if args.rounds is not None and args.rounds < 1:
        parser.error(f'--rounds must be at least 1, got {args.rounds}')
    if args.write_docs is not None and not args.write_docs.is_file():
        parser.error(f'--write-docs: there is no file {args.write_docs}')
    if args.sections is None:
        args.sections = [name for name in SECTIONS if name != 'gpu' or has_gpu()]
    elif 'gpu' in args.sections and not has_gpu():
        parser.error('--sections gpu: torch sees no GPU on this machine')
    return args


def main(description: str, argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 1 if a section failed."""
    args = parse_args(description, argv)
    # of torch's profiler, and of the libraries, in every child
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')
    warnings.filterwarnings('ignore')
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    register_all_modules(init_default_scope=True)
    about, command = environment(), 'python ' + shlex.join(sys.argv if argv is None else argv)
    print(*(f'{name}: {value}' for name, value in about.items()), sep='\n')
    rounds, at_least = args.rounds or (2 if args.quick else 5), 0.1 if args.quick else 1.0
    done = []
    for number, name in enumerate(args.sections, start=1):
        print(f'\n{number} of {len(args.sections)}', flush=True)
        done.append(SECTIONS[name])
        device = 'cuda' if name == 'gpu' else 'cpu'
        done[-1].run(Context(args.quick, rounds, device, at_least))
        report.write(args.out_dir, command, about, dict(quick=args.quick, rounds=rounds), done)
        if args.write_docs is not None:
            report.fill_document(args.write_docs, command, about, done[-1])
        say('')
        print(report.section_block(done[-1]), flush=True)
    print(f'\nWrote {args.out_dir}/speed.json, speed.md and images/')
    return int(any(section.error for section in done))
