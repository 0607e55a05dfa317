"""Detect in images, folders and videos with a model of mmdet: ``tools/image_demo.py``."""

from __future__ import annotations

import tempfile
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
from mmdet.apis import DetInferencer
from mmdet.registry import DATASETS
from mmdet.visualization import get_palette
from mmengine import fileio
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from torch import nn

from mmdet_centernet2.checkpoint.config_text import config_of_checkpoint
from mmdet_centernet2.checkpoint.match import (
    classes_of_checkpoint,
    load_checkpoint,
    num_classes_of,
    require_full_match,
)
from mmdet_centernet2.cli.checks import check_datasets, check_devices, load_config
from mmdet_centernet2.cli.mmdet_tools import add_fast_argument, errors_as_exit
from mmdet_centernet2.engine.hooks.fast_inference import speed_up
from mmdet_centernet2.runtime import Detections, demo
from mmdet_centernet2.runtime.drawing import draw
from mmdet_centernet2.utils.errors import PreflightError

_WINDOW = 'detections'


def build_parser() -> ArgumentParser:
    """That of mmdet's ``demo/image_demo.py``, without the text prompts of other models."""
    parser = ArgumentParser(description='Detect on images and videos and draw the boxes')
    add = parser.add_argument
    add('inputs', help='image file, folder, video file, or address of an image')
    add(
        'model',
        help='config file, model name in mmdet, or a .pth file that mmengine saved, which holds '
        'its config',
    )
    add('--weights', help='checkpoint file')
    add(
        '--backend',
        default='pytorch',
        choices=['pytorch'],
        help='onnxruntime or openvino run a file of tools/deploy.py instead, without torch; see '
        '--help with --backend onnxruntime',
    )
    add('--device', help='such as cuda:0 or cpu; the GPU if there is one unless given')
    demo.add_detect_arguments(parser)
    add_fast_argument(parser)
    add('--show', action='store_true', help='show pictures in a window')
    add('--palette', default='none', choices=['coco', 'voc', 'citys', 'random', 'none'])
    return parser


def main() -> None:
    """Run on this process' command line."""
    args = build_parser().parse_args()
    with errors_as_exit(demo.DeployedModelError):
        run(args, [args.inputs])


def run(args: Namespace, inputs: Sequence[str]) -> None:
    """Detect in images, folders and videos as the arguments say.

    Raises:
        UserError: If the model, its weights or the device cannot be used.
        DeployedModelError: If an input cannot be read; the results before it stay.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [path for each in inputs for path in demo.list_images(_fetched(each, folder))]
        demo.detect(TorchDetector(args), files, args)


def _fetched(source: str, folder: str) -> str | Path:
    """The file of an address; other inputs as they are."""
    if '://' not in source:
        return source
    path = Path(folder, Path(urlsplit(source).path).name)
    try:
        path.write_bytes(fileio.get(source))
    except Exception as error:  # of network, disk, an unknown kind of address
        raise PreflightError(
            f'{source} cannot be fetched ({error}). Download it, and give the file.'
        ) from error
    return path


class _Inferencer(DetInferencer):
    """mmdet's; it would take COCO's class names where a checkpoint has none."""

    def _load_model_from_metafile(self, model: str) -> tuple[Config, str]:
        try:
            return super()._load_model_from_metafile(model)
        except ValueError as error:
            raise PreflightError(
                f'{error}. Give a config file, a .pth file, or the name of a model in mmdet.'
            ) from error

    def _load_weights_to_model(self, model: nn.Module, checkpoint: dict | None, cfg: Config):
        super()._load_weights_to_model(model, checkpoint, cfg)
        model.dataset_meta['classes'] = class_names(checkpoint or {}, cfg)


def class_names(checkpoint: dict, cfg: Config) -> Sequence[str]:
    """Names of the classes in a checkpoint, else of the config's test data."""
    names = classes_of_checkpoint(checkpoint) or (checkpoint.get('meta') or {}).get('CLASSES')
    if names:  # the latter is mmdet 2's
        return names
    dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, lazy_init=True))
    return dataset.metainfo.get('classes', ())


def build_inferencer(
    model: str | Config, weights: str | None, device: str | None, **options: Any
) -> DetInferencer:
    """mmdet's inferencer, on the GPU if there is one and ``device`` does not say otherwise."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')  # mmengine warns that mmdet registers no functions
    try:
        with warnings.catch_warnings():
            # ours uses no COCO classes, and writes pictures itself
            warnings.filterwarnings('ignore', '.*use COCO classes by default|Failed to add')
            return _Inferencer(model, weights, device=device or get_device(), **options)
    finally:
        logger.setLevel(level)


class TorchDetector:
    """The model of the arguments, with the interface of the runtime's ``Detector``.

    Attributes:
        info: ``classes``, ``palette`` and the ``decoder`` of image files.
    """

    def __init__(self, args: Namespace):
        if args.show:
            _check_window()
        model, weights = checked_model(args.model, args.weights, args.device)
        self._inferencer = build_inferencer(model, weights, args.device, palette=args.palette)
        if args.fast:
            speed_up(self._inferencer.model, args.fast)
        self._show, self._score_thr = args.show, args.pred_score_thr
        cfg, meta = self._inferencer.cfg, self._inferencer.model.dataset_meta
        classes, palette = list(meta['classes']), meta.get('palette')
        count = max((count for _, count in num_classes_of(cfg.model)), default=0)
        classes += [f'class {label}' for label in range(len(classes), count)]
        if isinstance(palette, str):
            palette = None if palette == 'random' else get_palette(palette, 0)
        pipeline = cfg.test_dataloader.dataset.pipeline
        backends = [step['imdecode_backend'] for step in pipeline if 'imdecode_backend' in step]
        self.info: Any = SimpleNamespace(
            classes=classes,
            palette=palette if len(palette or ()) >= len(classes) else None,
            decoder=(backends or ['cv2'])[0],
        )

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        """Detect in images, each (h, w, 3), uint8, BGR."""
        ((_, data),) = self._inferencer.preprocess(images, batch_size=len(images))
        samples = [sample.pred_instances.cpu().numpy() for sample in self._inferencer.forward(data)]
        found = [Detections(s.bboxes, s.scores, s.labels, s.get('masks')) for s in samples]
        if self._show:
            for image, each in zip(images, found):
                cv2.imshow(_WINDOW, draw(image, each, self.info, self._score_thr))
                cv2.waitKey()
        return found


def _check_window() -> None:
    try:
        cv2.namedWindow(_WINDOW)
    except cv2.error as error:
        raise PreflightError(
            '--show cannot open a window: it needs a screen, and opencv-python instead of '
            'opencv-python-headless. Pictures are also written into --out-dir.'
        ) from error


def checked_model(
    model: str, weights: str | None, device: str | None
) -> tuple[str | Config, str | None]:
    """What :func:`build_inferencer` takes, checked as far as they are files.

    Raises:
        UserError: If model, weights and device cannot be used together.
    """
    check_devices(Namespace(device=device))
    if model.endswith('.pth'):  # it brings its own config
        return config_of_checkpoint(load_checkpoint(model), model), model
    if model.endswith('.py'):
        cfg = load_config(Namespace(config=model))
        checkpoint = None if weights is None else require_full_match(cfg, weights)
        check_datasets(cfg, ['test_dataloader'], [], checkpoint)
    return model, weights
