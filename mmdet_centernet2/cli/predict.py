"""``centernet2 predict``: detect in images, folders and videos and draw the boxes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from mmdet_centernet2.cli import image_demo
from mmdet_centernet2.cli.mmdet_tools import errors_as_exit
from mmdet_centernet2.cli.why import add_model_arguments, split_words
from mmdet_centernet2.runtime import demo


def add_arguments(parser: ArgumentParser) -> None:
    """The command line of ``centernet2 predict``."""
    add_model_arguments(parser)
    add = parser.add_argument
    add('--out-dir', default='outputs', help='folder for pictures (vis/) and results (preds/)')
    add('--pred-score-thr', type=float, default=0.3, help='smallest score that is drawn')
    add(
        '--tile',
        type=int,
        metavar='SIZE',
        help='detect in overlapping tiles with sides of so many pixels, too; for large pictures',
    )
    add(
        '--overlap', type=float, default=0.2, help='of tiles, as a part of their side (%(default)s)'
    )


def predict(args: Namespace) -> None:
    """Detect in images, folders and videos; ``.onnx`` models by onnxruntime."""
    names = ('out_dir', 'pred_score_thr', 'device', 'tile', 'overlap')
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    options = [f'--{name.replace("_", "-")}={value}' for name, value in given.items()]
    with errors_as_exit(demo.DeployedModelError):
        *inputs, model = args.words
        if inputs and model.endswith('.onnx'):
            parser, run, words = demo.build_parser(), demo.run, [model]
        else:
            inputs, config, checkpoint = split_words(args.words)
            parser, run = image_demo.build_parser(), image_demo.run
            words = [config, f'--weights={checkpoint}']
        run(parser.parse_args([inputs[0], *words, *options]), inputs)
