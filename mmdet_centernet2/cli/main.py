"""Train, apply and explain CenterNet2 detectors: the command ``centernet2``."""

from __future__ import annotations

import warnings
from argparse import ArgumentParser
from collections.abc import Sequence


def build_parser() -> ArgumentParser:
    """The command line, with a sub-command for each task."""
    from mmdet_centernet2.checkpoint.zoo import released_checkpoint, released_names
    from mmdet_centernet2.cli import demo, predict, train, why

    parser = ArgumentParser(
        prog='centernet2', description='Train, apply and explain CenterNet2 detectors.'
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, module, text in (
        ('train', train, 'train on a folder of labelled images'),
        ('predict', predict, 'detect in images and videos and draw the boxes'),
        ('why', why, 'show where the scores of an image come from'),
        ('demo', demo, 'open a page to drop pictures on'),
    ):
        each = commands.add_parser(name, help=text)
        module.add_arguments(each)
        each.set_defaults(run=getattr(module, name))
    each = commands.add_parser('weights', help="fetch released weights and print the file's path")
    each.add_argument('name', help=f'one of {released_names()}')
    each.set_defaults(run=lambda args: print(released_checkpoint(args.name)))
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; on the arguments of this process by default."""
    for category in (UserWarning, DeprecationWarning, FutureWarning):
        warnings.filterwarnings('ignore', category=category)  # of libraries
    from mmdet_centernet2.cli.mmdet_tools import errors_as_exit

    args = build_parser().parse_args(argv)
    with errors_as_exit():
        args.run(args)
