"""Detect on any image or folder, from the command line."""

from __future__ import annotations

import logging
import os.path as osp
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path

import mmengine
from mmdet.apis import DetInferencer
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.visualization import Visualizer

from mmdet_centernet2.checkpoint.config_text import config_of_checkpoint
from mmdet_centernet2.checkpoint.match import load_checkpoint, require_full_match
from mmdet_centernet2.cli.checks import PreflightError, check_datasets, check_devices, load_config
from mmdet_centernet2.cli.fast_option import add_fast_argument
from mmdet_centernet2.datasets.transforms.loading import ImageReadError
from mmdet_centernet2.engine.hooks.fast_inference import speed_up
from mmdet_centernet2.runtime import DeployedModelError, images
from mmdet_centernet2.runtime.video import is_video


class NamedInferencer(DetInferencer):
    """mmdet's inferencer; results name their classes.

    Pictures of models trained with mmdet's ``DetLocalVisualizer`` are drawn
    by ``CenterNet2Visualizer``, too. ``shared_stems`` are names that several
    images have but for their endings: their results keep the endings.
    """

    shared_stems: frozenset[str] = frozenset()

    def _init_visualizer(self, cfg: Config) -> Visualizer:
        if cfg.visualizer.type == 'DetLocalVisualizer':
            cfg.visualizer.type = 'CenterNet2Visualizer'
        return super()._init_visualizer(cfg)

    def pred2dict(self, data_sample: DetDataSample, pred_out_dir: str = '') -> dict:
        """As in ``DetInferencer``, with ``label_names`` beside ``labels``."""
        path = Path(data_sample.get('img_path') or '')
        file = Path(pred_out_dir, 'preds', f'{path.stem}.json')
        if path.stem in self.shared_stems:  # mmdet would write one file for all
            data_sample.set_metainfo(dict(img_path=f'{path}.json'))
            file = file.with_name(f'{path.name}.json')
        result = super().pred2dict(data_sample, pred_out_dir)
        if 'labels' not in result:
            return result
        names = dict(enumerate(self.model.dataset_meta['classes']))
        result['label_names'] = [names.get(label, f'class {label}') for label in result['labels']]
        if pred_out_dir and path.name:
            mmengine.dump(result, file)
        return result


def build_parser() -> ArgumentParser:
    """That of mmdet's ``demo/image_demo.py``, without the text prompts of other models.

    ``--device`` is found out instead of being the first GPU.
    """
    parser = ArgumentParser(description='Detect on an image or a folder and draw the boxes')
    add = parser.add_argument
    add('inputs', help='image file, folder, or address')
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
    add('--out-dir', default='outputs', help='folder for pictures (vis/) and results (preds/)')
    add('--device', help='such as cuda:0 or cpu; the GPU if there is one unless given')
    add('--pred-score-thr', type=float, default=0.3, help='smallest score of a box that is drawn')
    add('--batch-size', type=int, default=1)
    add_fast_argument(parser)
    add('--show', action='store_true', help='show pictures in a window')
    add('--no-save-vis', action='store_true', help='write no pictures')
    add('--no-save-pred', action='store_true', help='write no results')
    add('--print-result', action='store_true', help='print the results')
    add('--palette', default='none', choices=['coco', 'voc', 'citys', 'random', 'none'])
    return parser


def main() -> None:
    """Run on this process' command line.

    Raises:
        PreflightError: If the inputs or the device are not there.
        CheckpointError: If the checkpoint cannot be read or does not fit.
    """
    args = build_parser().parse_args()
    run(args, [args.inputs])


def run(args: Namespace, inputs: list[str]) -> None:
    """Detect in images and folders as the arguments say; see :func:`main`."""
    args.inputs = [path for each in inputs for path in list_images(each)]
    detect(args, build_inferencer(args))


def list_images(inputs: str) -> list[str]:
    """An image file or address, or all images of a folder, sorted.

    Raises:
        PreflightError: If there is none, or if it is a video.
    """
    if '://' in inputs:
        return [inputs]
    if is_video(inputs):
        raise PreflightError(
            f'input {inputs} is a video, which this tool does not read. Give it to: '
            f'centernet2 predict {inputs} CONFIG CHECKPOINT'
        )
    try:
        return [str(path) for path in images.list_images(inputs)]
    except DeployedModelError as error:
        raise PreflightError(str(error)) from error


def build_inferencer(args: Namespace) -> NamedInferencer:
    """The model of the arguments, once it and the device are checked."""
    _settle_model(args)
    check_devices(args)
    return NamedInferencer(
        model=args.model,
        weights=args.weights,
        device=args.device or get_device(),
        palette=args.palette,
    )


def detect(args: Namespace, inferencer: NamedInferencer) -> dict:
    """Detect as the arguments of :func:`build_parser` say, ``inputs`` as a list.

    Returns:
        ``predictions`` and ``visualization`` of mmdet's inferencer.

    Raises:
        PreflightError: If an image cannot be read; what was done before it
            stays in the output folder.
    """
    stems = Counter(Path(path).stem for path in args.inputs)
    inferencer.shared_stems = frozenset(stem for stem, count in stems.items() if count > 1)
    if args.fast:
        speed_up(inferencer.model, args.fast)
    # mmdet makes the folder even when nothing is written
    out_dir = '' if args.no_save_vis and args.no_save_pred else args.out_dir
    try:
        results = inferencer(
            args.inputs,
            out_dir=out_dir,
            pred_score_thr=args.pred_score_thr,
            batch_size=args.batch_size,
            show=args.show,
            no_save_vis=args.no_save_vis,
            no_save_pred=args.no_save_pred,
            print_result=args.print_result,
        )
    except ImageReadError as error:
        raise PreflightError(f'{error} The images before it are done{_where(out_dir)}.') from error
    print_log(f'{len(results["predictions"])} images are done{_where(out_dir)}.', 'current')
    _tell_empty(results['predictions'], args.pred_score_thr)
    return results


def _tell_empty(predictions: list[dict], score_thr: float) -> None:
    """Say in how many images nothing reaches the threshold."""
    best = [max(each.get('scores', ()), default=0) for each in predictions]
    below = [score for score in best if score <= score_thr]
    if not below:
        return
    said = f'No box above {score_thr} in {len(below)} of {len(best)} images'
    if max(below):
        said += f'; the best score there is {max(below):.4f}: lower --pred-score-thr to draw it'
    print_log(f'{said}.', 'current', logging.WARNING)


def _settle_model(args: Namespace) -> None:
    """Check the config and the weights, as far as they are files."""
    if args.model.endswith('.pth'):  # it brings its own config
        args.weights = args.model
        args.model = config_of_checkpoint(load_checkpoint(args.weights), args.weights)
    elif args.model.endswith('.py'):
        cfg = load_config(Namespace(config=args.model))
        checkpoint = None if args.weights is None else require_full_match(cfg, args.weights)
        check_datasets(cfg, ['test_dataloader'], [], checkpoint)


def _where(out_dir: str) -> str:
    return f', see {osp.abspath(out_dir)}' if out_dir else ''
