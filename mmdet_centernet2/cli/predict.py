"""``centernet2 predict``: detect in images, folders and videos and draw the boxes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from types import SimpleNamespace
from typing import Any

import numpy as np
from mmdet.apis import DetInferencer

from mmdet_centernet2.cli import image_demo
from mmdet_centernet2.cli.mmdet_tools import errors_as_exit
from mmdet_centernet2.cli.why import add_model_arguments, split_words
from mmdet_centernet2.runtime import Detections, demo


def add_arguments(parser: ArgumentParser) -> None:
    """The command line of ``centernet2 predict``."""
    add_model_arguments(parser)
    parser.add_argument(
        '--out-dir', default='outputs', help='folder for pictures (vis/) and results (preds/)'
    )
    parser.add_argument('--pred-score-thr', default='0.3', help='smallest score that is drawn')
    parser.add_argument(
        '--tile',
        type=int,
        metavar='SIZE',
        help='detect in overlapping tiles with sides of so many pixels, too; for large pictures',
    )
    parser.add_argument(
        '--overlap', type=float, default=0.2, help='of tiles, as a part of their side (%(default)s)'
    )


def predict(args: Namespace) -> None:
    """Detect in images, folders and videos; ``.onnx`` models by onnxruntime.

    Raises:
        UserError: If an input or the model cannot be used.
    """
    options = [f'--out-dir={args.out_dir}', f'--pred-score-thr={args.pred_score_thr}']
    options += [f'--device={args.device}'] if args.device else []
    with errors_as_exit(demo.DeployedModelError):
        *inputs, model = args.words
        if inputs and model.endswith('.onnx'):
            if args.tile is not None:
                options += [f'--tile={args.tile}', f'--overlap={args.overlap}']
            demo.run(demo.build_parser().parse_args([*inputs[:1], model, *options]), inputs)
            return
        inputs, config, checkpoint = split_words(args.words)
        words = [inputs[0], config, f'--weights={checkpoint}', *options]
        image_args = image_demo.build_parser().parse_args(words)
        if args.tile is None and not any(map(demo.is_video, inputs)):
            image_demo.run(image_args, inputs)
            return
        image_args.tile, image_args.overlap = args.tile, args.overlap
        files = [path for each in inputs for path in demo.list_images(each)]
        demo.detect(TorchDetector(image_demo.build_inferencer(image_args)), files, image_args)


class TorchDetector:
    """A model of mmdet with the interface of the runtime's ``Detector``.

    Args:
        inferencer: Has the model and its test pipeline.

    Attributes:
        info: ``classes``, ``palette`` and the ``decoder`` of image files.
    """

    def __init__(self, inferencer: DetInferencer):
        self._inferencer = inferencer
        meta = inferencer.model.dataset_meta
        palette = meta.get('palette')
        pipeline = inferencer.cfg.test_dataloader.dataset.pipeline
        backends = [step['imdecode_backend'] for step in pipeline if 'imdecode_backend' in step]
        self.info = SimpleNamespace(
            classes=meta['classes'],
            palette=None if isinstance(palette, str) else palette,
            decoder=(backends or ['cv2'])[0],
        )

    def __call__(self, images: list[np.ndarray]) -> list[Any]:
        """The runtime's ``Detections`` of images, each (h, w, 3), uint8, BGR."""
        ((_, data),) = self._inferencer.preprocess(images, batch_size=len(images))
        found = [sample.pred_instances.cpu().numpy() for sample in self._inferencer.forward(data)]
        return [
            Detections(each.bboxes, each.scores, each.labels, each.get('masks')) for each in found
        ]
