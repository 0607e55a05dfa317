"""What can be known to fail is said before the work starts, by one :class:`UserError`.

No check writes or deletes anything but torch's cache of downloaded weights.
"""

from __future__ import annotations

import logging
import os
import os.path as osp
from argparse import Namespace
from contextlib import AbstractContextManager
from difflib import get_close_matches
from pathlib import Path

import torch
from mmcv.ops import nms
from mmdet.datasets.samplers import MultiSourceSampler
from mmdet.registry import DATA_SAMPLERS, DATASETS, LOOPS
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader, EpochBasedTrainLoop, find_latest_checkpoint

from mmdet_centernet2.checkpoint import CheckpointError
from mmdet_centernet2.checkpoint.match import (
    classes_of_checkpoint,
    dicts_in,
    explain_mismatch,
    load_checkpoint,
    match_config,
    num_classes_of,
    require_full_match,
)
from mmdet_centernet2.cli.work_dir import lock_work_dir, work_dir_of
from mmdet_centernet2.datasets.centernet2_coco import check_class_names
from mmdet_centernet2.utils.errors import PreflightError


def check_train(args: Namespace) -> AbstractContextManager:
    """Check what ``tools/train.py`` was asked to do, by its arguments.

    Returns:
        Holds the work_dir while it is entered; see :func:`lock_work_dir`.
    """
    cfg = load_config(args)
    check_devices(args)
    if _is_first_process():
        check_schedule(cfg)
        validates = cfg.get('val_cfg') is not None
        loaders = ['train_dataloader'] + ['val_dataloader'] * validates
        evaluators = ['val_evaluator'] * validates
        check_data(cfg, loaders, evaluators)
        check_datasets(cfg, loaders, evaluators)
        check_pretrained(cfg)
        _check_start(args, cfg)
    return lock_work_dir(work_dir_of(args, cfg))


def check_test(args: Namespace) -> None:
    """Check what ``tools/test.py`` was asked to do, by its arguments."""
    cfg = load_config(args)
    check_devices(args)
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        raise PreflightError(f'--out {args.out} must end in .pkl or .pickle.')
    if _is_first_process():
        check_data(cfg, ['test_dataloader'], ['test_evaluator'])
        checkpoint = require_full_match(cfg, args.checkpoint)
        check_datasets(cfg, ['test_dataloader'], ['test_evaluator'], checkpoint)


def load_config(args: Namespace) -> Config:
    """Load ``args.config`` with ``args.cfg_options`` as mmdet's tools do."""
    path = Path(args.config)
    if not path.is_file():
        known = {p.name: p for p in (*path.parent.glob('*.py'), *Path('configs').glob('*/*.py'))}
        close = [str(known[name]) for name in get_close_matches(path.name, known, cutoff=0.5)]
        hint = f' Did you mean {", ".join(close)}?' if close else ''
        raise PreflightError(f'config {path} does not exist (looked for {path.absolute()}).{hint}')
    try:
        cfg = Config.fromfile(args.config)
    except Exception as error:  # a config is a program: anything may happen
        raise PreflightError(
            f'config {path} cannot be read ({type(error).__name__}: {error}).'
        ) from error
    if getattr(args, 'cfg_options', None):
        cfg.merge_from_dict(args.cfg_options)
    return cfg


# -----data sets-----
def leaf_datasets(node: dict, key: str) -> list[tuple[str, dict]]:
    """Config key and config of each data set in ``node`` that reads files."""
    return [(k, part) for k, part in dicts_in(node, key) if {'ann_file', 'data_root'} & set(part)]


def check_data(cfg: Config, loaders: list[str], evaluators: list[str]) -> None:
    """Check that files and folders of these loaders and evaluators are there; name all missing."""
    missing = [
        found
        for loader in loaders
        for key, leaf in leaf_datasets(cfg.get(loader), loader)
        for found in _missing_paths(leaf, key)
    ]
    for name in evaluators:
        for key, part in leaf_datasets(cfg.get(name), name):
            missing += _missing_paths(dict(part, data_root=None, data_prefix=None), key)
    if missing:
        raise PreflightError(
            f'the data this run needs is not there:\n{_listed(missing)}\nRelative paths start '
            f'from {os.getcwd()}. What to do: put the data there, or name its place, for example '
            f'with --cfg-options {missing[0][0]}=/path/to/it'
        )


def _listed(paths: list[tuple[str, str]]) -> str:
    return '\n'.join(f'  {key} = {path!r}' for key, path in paths)


def _missing_paths(dataset: dict, key: str) -> list[tuple[str, str]]:
    """Config keys and missing paths of a data set; the root alone where that is missing."""
    if dataset.get('backend_args'):  # not on this machine's disk
        return []
    root = dataset.get('data_root') or ''
    if root and _is_missing(root):
        return [(f'{key}.data_root', root)]
    prefixes = (dataset.get('data_prefix') or {}).items()
    needed = {'ann_file': dataset.get('ann_file')}
    needed |= {f'data_prefix.{name}': prefix for name, prefix in prefixes}
    # As mmengine's BaseDataset joins them: below the root unless absolute.
    joined = [(f'{key}.{name}', osp.join(root, path)) for name, path in needed.items() if path]
    return [(name, path) for name, path in joined if _is_missing(path)]


def _is_missing(path: str) -> bool:
    return '://' not in path and not osp.exists(path)


def check_datasets(
    cfg: Config, loaders: list[str], evaluators: list[str], checkpoint: dict | None = None
) -> None:
    """Check that classes, heads, evaluators and a checkpoint fit the data.

    All data sets of a run need the same classes in the same order, and as many
    as the heads; an evaluator needs the annotation file of its loader.
    """
    known = [
        (key, leaf, classes)
        for loader in loaders
        for key, leaf in leaf_datasets(cfg.get(loader), loader)
        if (classes := classes_of(leaf, key)) is not None
    ]
    trained = tuple(classes_of_checkpoint(checkpoint or {}) or ())
    for index, (key, leaf, classes) in enumerate(known):
        if index:
            _compare_classes(known[0][0], known[0][2], key, classes, leaf)
        else:
            check_num_classes(cfg, classes, key)
        if sorted(trained) == sorted(classes):
            _compare_classes('the checkpoint', trained, key, classes, leaf)
    for name in evaluators:
        loader = name.replace('evaluator', 'dataloader')
        read = [
            osp.join(leaf.get('data_root') or '', leaf['ann_file'])
            for _, leaf in leaf_datasets(cfg.get(loader), loader)
            if leaf.get('ann_file')
        ]
        for _, evaluator in leaf_datasets(cfg.get(name), name):
            ann_file = evaluator.get('ann_file')
            if ann_file and read and osp.realpath(ann_file) not in map(osp.realpath, read):
                raise PreflightError(
                    f'{name}.ann_file = {ann_file!r} is not the file that {loader} reads, '
                    f'{" or ".join(read)}: its images and objects would be compared with those of '
                    'other ones. Set both to the same file'
                )


def check_num_classes(cfg: Config, classes: tuple, key: str) -> None:
    """Check the number of classes of all heads against those of a data set."""
    wrong = {
        f'model.{path}.num_classes': count
        for path, count in num_classes_of(cfg.model)
        if count != len(classes) and 'rpn_head' not in path.split('.')
    }
    if wrong:
        listed = ', '.join(f'{k} = {n}' for k, n in wrong.items())
        options = ' '.join(f'{k}={len(classes)}' for k in wrong)
        raise PreflightError(
            f'{key} has {len(classes)} classes {_short(classes)}, but {listed}. num_classes must '
            f'be the number of classes in metainfo: set {options}, or mend '
            'metainfo=dict(classes=(...))'
        )


def classes_of(dataset: dict, key: str) -> tuple | None:
    """Classes of a data set's config: its ``metainfo``, else its type's.

    None if neither says, or they are listed in a file.
    """
    metainfo = dataset.get('metainfo') or {}
    if 'classes' not in metainfo and isinstance(dataset.get('type'), str):
        metainfo = getattr(DATASETS.get(dataset['type']), 'METAINFO', {})
    classes = metainfo.get('classes', ())
    try:
        check_class_names(classes)
    except ValueError as error:
        raise PreflightError(f'{key}.{error}') from error
    return None if isinstance(classes, str) or not classes else tuple(classes)


def _compare_classes(
    key: str, classes: tuple, other_key: str, others: tuple, dataset: dict
) -> None:
    if classes != others:
        same = sorted(classes) == sorted(others)
        raise PreflightError(
            f'{other_key}.metainfo.classes (ann_file {dataset.get("ann_file")}) {_short(others)} '
            f'has {"the same classes in another order" if same else "other classes"} than {key} '
            f"{_short(classes)}. Use training's classes in training's order everywhere; labels "
            'are mapped by name, whatever the order in the annotation file'
        )


def _short(names: tuple) -> str:
    return f'({", ".join(map(repr, names[:5]))}{", ..." if len(names) > 5 else ""})'


# -----schedule-----
def check_schedule(cfg: Config) -> None:
    """Check that ``train_cfg`` is one kind of loop, and that epochs end if it counts them."""
    loop = cfg.get('train_cfg') or {}
    if 'max_iters' in loop and 'max_epochs' in loop:
        raise PreflightError(
            'train_cfg has both max_iters and max_epochs. To replace an inherited train_cfg, '
            "write train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=...) "
            'in the config.'
        )
    sampler = (cfg.get('train_dataloader') or {}).get('sampler') or {}
    by_epoch = loop.get('by_epoch') or _is_a(LOOPS, loop.get('type'), EpochBasedTrainLoop)
    endless = (InfiniteSampler, MultiSourceSampler)
    if by_epoch and _is_a(DATA_SAMPLERS, sampler.get('type'), endless):
        raise PreflightError(
            f'train_dataloader.sampler: {sampler["type"]} never ends, so the EpochBasedTrainLoop '
            'of train_cfg would never finish epoch 1. Set train_dataloader = '
            "dict(sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True)), or train by "
            "iterations: train_cfg = dict(_delete_=True, type='FastResumeTrainLoop', "
            'max_iters=...).'
        )


def _is_a(registry, name: object, kinds: type | tuple[type, ...]) -> bool:
    """Whether a ``type`` of a config stands for one of the classes."""
    found = registry.get(name) if isinstance(name, str) else name
    return isinstance(found, type) and issubclass(found, kinds)


# -----pretrained weights-----
def check_pretrained(cfg: Config) -> None:
    """Check the pretrained weights which a model starts from; fetch those named by address."""
    files = [
        (f'{key}.checkpoint', part['checkpoint'])
        for key, part in dicts_in(cfg.get('model'), 'model')
        if part.get('type') == 'Pretrained' and part.get('checkpoint')
    ]
    missing = [(key, path) for key, path in files if '://' not in path and not osp.isfile(path)]
    if missing:
        key, path = missing[0]
        raise PreflightError(
            f'the pretrained weights this run starts from are not there:\n{_listed(missing)}\n'
            f'Relative paths start from {os.getcwd()}. A file of docs/pretrained.md is\n'
            f'    converted by: mkdir -p {osp.dirname(path) or "."} && python '
            f'tools/model_converters/detectron2_to_mmdet.py FILE {path} --backbone-only\n'
            'To do without, as when load_from or a resumed run replaces them: '
            f'--cfg-options {key.split(".init_cfg")[0]}.init_cfg=None'
        )
    for key, path in files:
        try:
            if '://' in path:
                CheckpointLoader.load_checkpoint(path, map_location='cpu')
        except Exception as error:  # of network, disk, unknown names
            reason = f'{type(error).__name__}: {error}'.splitlines()[0]
            raise PreflightError(
                f'{key} = {path!r} cannot be fetched ({reason}). What to do: give a file made as '
                f'docs/pretrained.md says with --cfg-options {key}=FILE, or copy the one that '
                f'another machine has fetched into {osp.join(torch.hub.get_dir(), "checkpoints")}, '
                'or start without: '
                f'--cfg-options {key.partition(".init_cfg")[0]}.init_cfg=None'
            ) from error


# -----devices-----
def check_devices(args: Namespace) -> None:
    """Check that the device asked for is there, and that mmcv was compiled for it."""
    device = getattr(args, 'device', None) or ''
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise PreflightError(
            f'--device {device} was asked for, but {_no_gpu()} Leave --device away to run on what '
            'is there.'
        )
    if getattr(args, 'amp', False) and get_device() == 'cpu':
        raise PreflightError(
            f'--amp needs a GPU, but {_no_gpu()} Leave --amp away to train in float32, or take '
            '--cfg-options optim_wrapper.type=BF16OptimWrapper to train in bfloat16.'
        )
    processes, gpus = int(os.environ.get('LOCAL_WORLD_SIZE', 1)), torch.cuda.device_count()
    if getattr(args, 'launcher', 'none') == 'pytorch' and 0 < gpus < processes:
        raise PreflightError(
            f'{processes} processes were started on this machine, which shows {gpus} '
            f'GPU{"s" * (gpus > 1)}. Start one process for each GPU.'
        )
    device = device or get_device()
    if not device.startswith('cuda') or not _is_first_process():
        return
    try:
        run_nms(device)
    except RuntimeError as error:
        arch = '.'.join(map(str, torch.cuda.get_device_capability(device)))
        reason = str(error).strip().splitlines()[0]
        raise PreflightError(
            f"mmcv's operators do not run on {device} ({torch.cuda.get_device_name(device)}): "
            f'{reason} Compile them for it: FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST={arch} bash '
            'tools/quickstart.sh --setup-only (needs nvcc; docs/install.md). To run on the CPU, '
            'hide the GPU: CUDA_VISIBLE_DEVICES='
        ) from error


def run_nms(device: str) -> list[int]:
    """Indices that mmcv's NMS keeps of two overlapping boxes."""
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.0]], device=device)
    return nms(boxes, boxes.new_tensor([0.9, 0.8]), 0.5)[1].tolist()


def _no_gpu() -> str:
    if torch.version.cuda is None:
        return f'this torch ({torch.__version__}) is built without CUDA.'
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    return f'torch finds no GPU on this machine (CUDA_VISIBLE_DEVICES={visible!r}).'


def _is_first_process() -> bool:
    """True for one process of each machine: the others need not repeat."""
    # mmdet's tools set LOCAL_RANK to 0 where only Slurm counts processes.
    return all(int(os.environ.get(name, 0)) == 0 for name in ('LOCAL_RANK', 'SLURM_LOCALID'))


# -----checkpoints-----
def _check_start(args: Namespace, cfg: Config) -> None:
    """Check the checkpoint that training starts or goes on from."""
    start = cfg.get('load_from')
    if args.resume == 'auto' or (cfg.get('resume') and not start):
        resumed = find_latest_checkpoint(work_dir_of(args, cfg))
    else:
        resumed = args.resume or (start if cfg.get('resume') else None)
    if resumed:
        _check_resume(cfg, resumed)
    elif start and args.resume is None:
        checkpoint = load_checkpoint(start)
        match = match_config(cfg, checkpoint, start)
        if match.left_out:  # all are named: what starts untrained decides how to train on
            reason = explain_mismatch(cfg, checkpoint, match).splitlines()[0]
            names = '\n'.join(f'  {name}' for name in match.left_out)
            text = (
                f'{start}: {match.loaded} tensors fit, {len(match.left_out)} of the model keep '
                f'their initial values; {reason}\n{names}'
            )
            print_log(text, 'current', logging.WARNING)


def _check_resume(cfg: Config, path: str) -> None:
    try:
        checkpoint = load_checkpoint(path)
    except CheckpointError as error:
        others = [p for p in Path(path).parent.glob('*.pth') if p != Path(path)]
        newest = sorted(others, key=lambda p: p.stat().st_mtime, reverse=True)[:5]
        beside = f' Others beside it: {", ".join(map(str, newest))}' if newest else ''
        raise CheckpointError(f'{error}{beside}') from error
    if 'optimizer' not in checkpoint:
        raise CheckpointError(
            f'checkpoint {path} holds weights only, no optimizer to resume with. Start from it '
            f'with --cfg-options load_from={path}'
        )
    if 'config' in checkpoint.get('meta', {}):
        raise CheckpointError(
            f"checkpoint {path} holds meta['config'], which mmengine does not write and would "
            f'execute on resuming. Start from its weights: --cfg-options load_from={path}'
        )
    require_full_match(cfg, path)
