"""``tools/deploy.py``: mmdeploy's program of that name, with checks before and a comparison after.

The arguments and steps are mmdeploy's, each step by its own function.
"""

import argparse
import logging
import os.path as osp
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

try:
    import mmdeploy  # noqa: F401
except ImportError as missing:
    sys.exit(
        f'{Path(sys.argv[0]).name}: error: {missing}. Deployment needs mmdeploy, onnx and '
        'onnxruntime: docs/install.md says how to install them.'
    )

import torch
from mmdeploy.apis import torch2onnx
from mmdeploy.apis.utils import build_task_processor, to_backend
from mmdeploy.codebase.base import BaseTask
from mmdeploy.utils import Backend, get_backend, get_input_shape, get_ir_config, get_root_logger
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel

from mmdet_centernet2.checkpoint.match import require_full_match
from mmdet_centernet2.cli.checks import PreflightError, check_devices, load_config
from mmdet_centernet2.cli.mmdet_tools import errors_as_exit
from mmdet_centernet2.deploy import enable
from mmdet_centernet2.deploy.backend_model import from_instances
from mmdet_centernet2.deploy.parity import agreement
from mmdet_centernet2.deploy.task import pad_to_shape
from mmdet_centernet2.runtime import DeployedModelError

MODULE = 'mmdet_centernet2.deploy'
say = partial(print, flush=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Export a detector and run the exported model.')
    add = parser.add_argument
    add('deploy_cfg', help='one of configs/deploy')
    add('model_cfg', help='config of the model')
    add('checkpoint', help='its weights')
    add('img', help='image to export with')
    add('--test-img', nargs='+', help='images to compare on; img by default')
    add('--work-dir', default='.', help='where files are written')
    add('--device', default='cpu', help='such as cuda:0')
    levels = list(logging._nameToLevel)
    add('--log-level', default='ERROR', choices=levels, help='of mmdeploy and mmengine')
    add('--show', action='store_true', help='show detections in windows')
    add('--dump-info', action='store_true', help="write what mmdeploy's SDK reads")
    return parser.parse_args(argv)


@contextmanager
def quietly(log_level: str = 'WARNING') -> Iterator[None]:
    """Run a tool on registered modules, with few logs and its users' errors in one line."""
    register_all_modules()
    MMLogger.get_current_instance().setLevel(log_level)
    with errors_as_exit(DeployedModelError):
        yield


def main(argv: Sequence[str] | None = None) -> None:
    """Export, convert, run and compare."""
    args = _parse(argv)
    enable()
    get_root_logger().setLevel(args.log_level)
    warnings.filterwarnings('ignore', category=torch.jit.TracerWarning)
    warnings.filterwarnings('ignore', 'Constant folding')
    with quietly(args.log_level):
        export_all(args, *load_configs(args))


def load_configs(args: argparse.Namespace) -> tuple[Config, Config]:
    """Load both configs, and find what cannot work before the work starts."""
    deploy_cfg = load_config(argparse.Namespace(config=args.deploy_cfg))
    if MODULE not in deploy_cfg.get('codebase_config', {}).get('module', []):
        raise PreflightError(
            f'{args.deploy_cfg} is no deploy config of this package: take one of configs/deploy, '
            f"or set codebase_config.module=['{MODULE}']. The order of arguments is deploy_cfg "
            'model_cfg checkpoint img'
        )
    model_cfg = load_config(argparse.Namespace(config=args.model_cfg))
    for path in (args.img, *(args.test_img or [])):
        if not osp.isfile(path):
            raise PreflightError(f'{path} does not exist (looked for {osp.abspath(path)})')
    if get_backend(deploy_cfg) == Backend.TENSORRT and not args.device.startswith('cuda'):
        raise PreflightError('TensorRT runs on a GPU: give --device cuda:0')
    check_devices(args)
    has_masks = bool(model_cfg.model.get('roi_head', {}).get('mask_head'))
    if has_masks != ('masks' in get_ir_config(deploy_cfg)['output_names']):
        raise PreflightError(
            f'the model has {"a" if has_masks else "no"} mask head: take the '
            f'{"instance-seg" if has_masks else "detection"}_*.py of configs/deploy, '
            f'not {args.deploy_cfg}'
        )
    require_full_match(model_cfg, args.checkpoint)
    return deploy_cfg, model_cfg


def export_all(args: argparse.Namespace, deploy_cfg: Config, model_cfg: Config) -> None:
    """All steps, each announced."""
    Path(args.work_dir).mkdir(parents=True, exist_ok=True)
    backend = get_backend(deploy_cfg).value
    onnx_name = get_ir_config(deploy_cfg)['save_file']
    onnx_file = osp.join(args.work_dir, onnx_name)
    start = time.time()
    say(f'exporting {args.checkpoint} to {onnx_file} ...')
    try:
        torch2onnx(
            args.img, args.work_dir, onnx_name, deploy_cfg, model_cfg, args.checkpoint, args.device
        )
    except ValueError as error:  # what the rewriters cannot export
        raise PreflightError(str(error)) from error
    say(f'converting for {backend} ...')
    options = dict(deploy_cfg=deploy_cfg, log_level=args.log_level, device=args.device)
    files = to_backend(backend, [onnx_file], work_dir=args.work_dir, **options)
    if args.dump_info:
        from mmdeploy.backend.sdk.export_info import export2SDK

        export2SDK(deploy_cfg, model_cfg, args.work_dir, args.checkpoint, args.device)
    say(f'written after {time.time() - start:.0f} s: {", ".join(files)}')
    compare(args, build_task_processor(model_cfg, deploy_cfg, args.device), files, backend)


def compare(args: argparse.Namespace, task: BaseTask, files: Sequence[str], backend: str) -> None:
    """Run both models, draw their detections and say how far they agree."""
    images = args.test_img or [args.img]
    shape = get_input_shape(task.deploy_cfg)
    if shape is not None:
        say(
            f'both models see images padded to {shape[0]}x{shape[1]}; where they are much smaller, '
            'group norms see the padding and results differ from those of an unpadded image'
        )
    say(f'running {backend} and PyTorch on {len(images)} image(s) ...')
    original, exported = task.build_pytorch_model(args.checkpoint), task.build_backend_model(files)
    found = []
    for name, model in (('pytorch', original), (backend, exported)):
        samples = [_run(model, task, image) for image in images]
        for image, sample in zip(images, samples):
            picture = osp.join(args.work_dir, f'output_{name}_{Path(image).stem}.jpg')
            task.visualize(image, sample, picture, window_name=name, show_result=args.show)
        found.append([from_instances(sample.pred_instances) for sample in samples])
    result = agreement(*found)
    say(
        f'{backend} against PyTorch: {result.pairs} detections in both, '
        f'{result.only_other} only in {backend}, {result.only_reference} only in PyTorch; '
        f'boxes differ by at most {result.box:.2g} px, scores by {result.score:.2g}'
    )


@torch.no_grad()
def _run(model: BaseModel, task: BaseTask, image: str) -> DetDataSample:
    """Run either model on the same input, padded to a static shape if any.

    The padding is part of what group norms average over.
    """
    data = model.data_preprocessor(task.create_input(image)[0], False)
    inputs = pad_to_shape(data['inputs'], get_input_shape(task.deploy_cfg))
    return model(inputs, data['data_samples'], mode='predict')[0]
