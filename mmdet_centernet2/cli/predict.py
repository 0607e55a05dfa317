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
    demo.add_detect_arguments(parser)


def predict(args: Namespace) -> None:
    """Detect in images, folders and videos; ``.onnx`` models by onnxruntime."""
    *inputs, model = args.words
    with errors_as_exit(demo.DeployedModelError):
        if inputs and model.endswith('.onnx'):
            tool, words = demo, [model]
            args.device = args.device or 'cpu'
        else:
            inputs, config, checkpoint = split_words(args.words)
            tool, words = image_demo, [config, f'--weights={checkpoint}']
        # the tool's parser only adds the options that this command does not have
        tool.run(tool.build_parser().parse_args([inputs[0], *words], args), inputs)
