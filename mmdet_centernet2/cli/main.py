"""The command ``centernet2``."""

from __future__ import annotations

import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from functools import partial


def build_parser() -> ArgumentParser:
    """The command line, with a sub-command for each task."""
    from mmdet_centernet2.cli import train, why

    parser = ArgumentParser(prog='centernet2', description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    say = partial(print, flush=True, file=sys.stdout)
    each = commands.add_parser('train', help='train on a folder of labelled images')
    train.add_arguments(each)
    each.set_defaults(run=partial(train.train, say=say))
    each = commands.add_parser('predict', help='detect in images and draw the boxes')
    why.add_model_arguments(each)
    each.add_argument('--out-dir', default='outputs', help='folder for pictures and results')
    each.add_argument('--pred-score-thr', default='0.3', help='smallest score that is drawn')
    each.set_defaults(run=_predict)
    each = commands.add_parser('why', help='show where the scores of an image come from')
    why.add_arguments(each)
    each.set_defaults(run=partial(why.why, say=say))
    each = commands.add_parser('weights', help="fetch released weights and print the file's path")
    each.add_argument('name', help='such as CenterNet2_R50_1x')
    each.set_defaults(run=_weights)
    return parser


def _predict(args: Namespace) -> None:
    from mmdet_centernet2.cli import image_demo
    from mmdet_centernet2.cli.why import split_words

    inputs, config, checkpoint = split_words(args.words)
    options = ['--out-dir', args.out_dir, '--pred-score-thr', args.pred_score_thr]
    options += ['--device', args.device] if args.device else []
    words = [inputs[0], config, '--weights', checkpoint, *options]
    image_demo.run(image_demo.build_parser().parse_args(words), inputs)


def _weights(args: Namespace) -> None:
    from mmdet_centernet2.checkpoint.released import released_checkpoint

    print(released_checkpoint(args.name))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Its arguments; those of the process by default.
    """
    for category in (UserWarning, DeprecationWarning, FutureWarning):
        warnings.filterwarnings('ignore', category=category)  # of libraries
    from mmdet_centernet2.cli.mmdet_tools import errors_as_exit

    args = build_parser().parse_args(argv)
    with errors_as_exit():
        args.run(args)
