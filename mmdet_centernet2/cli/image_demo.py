"""Detect on any image or folder, from the command line."""

from __future__ import annotations

import logging
import os
import os.path as osp
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path

import mmengine
from mmdet.apis import DetInferencer
from mmdet.apis.det_inferencer import IMG_EXTENSIONS
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
from mmdet_centernet2.runtime.video import is_video

_ONE_CALL = (
    'inputs',
    'out_dir',
    'pred_score_thr',
    'batch_size',
    'show',
    'no_save_vis',
    'no_save_pred',
    'print_result',
)


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
    parser.add_argument('inputs', help='image file, folder, or address')
    parser.add_argument(
        'model',
        help='config file, model name in mmdet, or a .pth file that '
        'mmengine saved, which holds its config',
    )
    parser.add_argument('--weights', help='checkpoint file')
    parser.add_argument(
        '--backend',
        default='pytorch',
        choices=['pytorch'],
        help='onnxruntime or openvino run a file of '
        'tools/deploy.py instead, without torch; see --help '
        'with --backend onnxruntime',
    )
    parser.add_argument(
        '--out-dir', default='outputs', help='folder for pictures (vis/) and results (preds/)'
    )
    parser.add_argument(
        '--device', help='such as cuda:0 or cpu; the GPU if there is one unless given'
    )
    parser.add_argument(
        '--pred-score-thr', type=float, default=0.3, help='smallest score of a box that is drawn'
    )
    parser.add_argument('--batch-size', type=int, default=1)
    add_fast_argument(parser)
    parser.add_argument('--show', action='store_true', help='show pictures in a window')
    parser.add_argument('--no-save-vis', action='store_true', help='write no pictures')
    parser.add_argument('--no-save-pred', action='store_true', help='write no results')
    parser.add_argument('--print-result', action='store_true', help='print the results')
    parser.add_argument(
        '--palette', default='none', choices=['coco', 'voc', 'citys', 'random', 'none']
    )
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
    """The images that the user named.

    Args:
        inputs: An image file, a folder or an address.

    Returns:
        The image; of a folder all images in it, sorted, whatever
        the case of their ending.

    Raises:
        PreflightError: If there is none, or if it is a video or has another
            ending than an image.
    """
    if is_video(inputs):
        raise PreflightError(
            f'input {inputs} is a video, which this tool does not read. Give it to: '
            f'centernet2 predict {inputs} CONFIG CHECKPOINT'
        )
    endings = ' '.join(IMG_EXTENSIONS)
    if '://' in inputs:
        return [inputs]
    if osp.isfile(inputs):
        if not inputs.lower().endswith(IMG_EXTENSIONS):
            raise PreflightError(
                f'input {inputs} does not end in {endings}. Rename a JPEG to .jpg, convert others.'
            )
        return [inputs]
    if not osp.isdir(inputs):
        raise PreflightError(f'input {inputs} does not exist (looked for {osp.abspath(inputs)}).')
    files = {entry.name for entry in os.scandir(inputs) if entry.is_file()}
    names = {name for name in files if name.lower().endswith(IMG_EXTENSIONS)}
    if not names:
        raise PreflightError(f'folder {inputs} holds no image (a file ending in {endings}).')
    skipped = sorted(files - names)
    if skipped:
        print_log(
            f'{len(skipped)} files of {inputs} are skipped, as they do not end in {endings}: '
            f'{", ".join(skipped[:10])}{", ..." if len(skipped) > 10 else ""}',
            'current',
            logging.WARNING,
        )
    return [osp.join(inputs, name) for name in sorted(names)]


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
    """Detect as the arguments say.

    Args:
        args: From :func:`build_parser`, ``inputs`` as a list.
        inferencer: Runs the model.

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
    call = {name: getattr(args, name) for name in _ONE_CALL}
    if args.no_save_vis and args.no_save_pred:
        call['out_dir'] = ''
    try:
        results = inferencer(**call)
    except ImageReadError as error:
        raise PreflightError(
            f'{error} The images before it are done{_where(call["out_dir"])}.'
        ) from error
    print_log(f'{len(results["predictions"])} images are done{_where(call["out_dir"])}.', 'current')
    _tell_empty(results['predictions'], args.pred_score_thr)
    return results


def _tell_empty(predictions: list[dict], score_thr: float) -> None:
    """Say in how many images nothing reaches the threshold."""
    best = [max(each.get('scores', ()), default=0) for each in predictions]
    below = [score for score in best if score <= score_thr]
    if below:
        advice = (
            f'; the best score there is {max(below):.4f}: lower --pred-score-thr to draw it'
            if max(below)
            else ''
        )
        print_log(
            f'No box above {score_thr} in {len(below)} of {len(best)} images{advice}.',
            'current',
            logging.WARNING,
        )


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
