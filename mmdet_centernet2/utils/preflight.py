"""What can be known to fail is said before the work starts.

The tools call these checks first: a missing folder or a checkpoint for other
classes is found in seconds, in one message, instead of after the data set has
been read. No check writes or deletes anything.
"""
from __future__ import annotations

import logging
import os
import os.path as osp
from argparse import Namespace
from difflib import get_close_matches
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.runner import find_latest_checkpoint

from mmdet_centernet2.checkpoint import CheckpointError
from mmdet_centernet2.utils.dataset_checks import (check_checkpoint_classes,
                                                   check_datasets)
from mmdet_centernet2.utils.dataset_paths import missing_paths
from mmdet_centernet2.utils.errors import PreflightError
from mmdet_centernet2.utils.pretrained_files import (fetch_pretrained,
                                                     missing_pretrained)
from mmdet_centernet2.utils.run_checks import check_operators, check_schedule
from mmdet_centernet2.utils.weights_check import (WeightsMatch,
                                                  explain_mismatch,
                                                  load_checkpoint,
                                                  match_config,
                                                  require_full_match)


def check_train(args: Namespace) -> None:
    """Check what ``tools/train.py`` was asked to do.

    Args:
        args (Namespace): Parsed by mmdet's ``tools/train.py``.

    Raises:
        PreflightError: If the config, a data set's file or folder, a file of
            pretrained weights, or the device asked for is not there.
        CheckpointError: If the checkpoint to start from cannot be read, or
            the one to resume from does not fit.
    """
    cfg = load_config(args)
    check_devices(args)
    if not _is_first_process():
        return
    check_schedule(cfg)
    validates = cfg.get('val_cfg') is not None
    loaders = ['train_dataloader'] + ['val_dataloader'] * validates
    evaluators = ['val_evaluator'] * validates
    check_data(cfg, loaders, evaluators)
    check_datasets(cfg, loaders, evaluators)
    check_pretrained(cfg)
    _check_start(args, cfg)


def check_test(args: Namespace) -> None:
    """Check what ``tools/test.py`` was asked to do.

    Args:
        args (Namespace): Parsed by mmdet's ``tools/test.py``.

    Raises:
        PreflightError: If the config, a data set's file or folder, or the
            device asked for is not there.
        CheckpointError: If the checkpoint cannot be read or does not fit.
    """
    cfg = load_config(args)
    check_devices(args)
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        raise PreflightError(f'--out {args.out} must end in .pkl or .pickle.')
    if not _is_first_process():
        return
    check_data(cfg, ['test_dataloader'], ['test_evaluator'])
    checkpoint = require_full_match(cfg, args.checkpoint)
    check_datasets(cfg, ['test_dataloader'], ['test_evaluator'])
    trained = (checkpoint.get('meta') or {}).get('dataset_meta', {})
    check_checkpoint_classes(cfg, 'test_dataloader', trained.get('classes'))


def load_config(args: Namespace) -> Config:
    """Load the config as mmdet's tools do.

    Args:
        args (Namespace): With ``config`` and ``cfg_options``.

    Returns:
        Config: The config with the options merged in.

    Raises:
        PreflightError: If there is no such file.
    """
    if not osp.isfile(args.config):
        raise PreflightError(
            f'config {args.config} does not exist (looked for '
            f'{osp.abspath(args.config)}).{_similar(args.config)}')
    cfg = Config.fromfile(args.config)
    if getattr(args, 'cfg_options', None):
        cfg.merge_from_dict(args.cfg_options)
    return cfg


def check_data(cfg: Config, loaders: list[str],
               evaluators: list[str]) -> None:
    """Check that the data sets of a run are there.

    Args:
        cfg (Config): The whole config.
        loaders (list[str]): Keys of the data loaders that the run uses.
        evaluators (list[str]): Keys of the evaluators that it uses.

    Raises:
        PreflightError: With every missing path and its config key.
    """
    missing = missing_paths(cfg, loaders, evaluators)
    if not missing:
        return
    lines = [f'  {key} = {path!r}' for key, path in missing]
    raise PreflightError(
        'the data this run needs is not there:\n' + '\n'.join(lines) +
        f'\nRelative paths start from {os.getcwd()}. What to do: put the '
        'data there, or name its place, for example with --cfg-options '
        f'{missing[0][0]}=/path/to/it')


def check_pretrained(cfg: Config) -> None:
    """Check that the pretrained weights which a model starts from are there.

    Args:
        cfg (Config): The whole config.

    Raises:
        PreflightError: With every missing file, its config key and the
            command that makes it, or if an address cannot be fetched.
    """
    missing = missing_pretrained(cfg)
    if not missing:
        fetch_pretrained(cfg)
        return
    lines = []
    for file in missing:
        lines.append(f'  {file.key} = {file.path!r}')
        if file.command():
            lines.append(f'    made by: {file.command()}')
    init_cfg = missing[0].key.split('.init_cfg')[0] + '.init_cfg'
    raise PreflightError(
        'the pretrained weights this run starts from are not there:\n' +
        '\n'.join(lines) + f'\nRelative paths start from {os.getcwd()}. '
        'docs/pretrained.md says where the files come from. To do without, as '
        'when load_from or a resumed run replaces them: --cfg-options '
        f'{init_cfg}=None')


def check_devices(args: Namespace) -> None:
    """Check that the device asked for is there.

    Args:
        args (Namespace): ``amp``, ``device`` and ``launcher`` are looked at
            where they exist.

    Raises:
        PreflightError: If a GPU is asked for and not there.
    """
    device = getattr(args, 'device', None) or ''
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise PreflightError(
            f'--device {device} was asked for, but {_no_gpu()} '
            'Leave --device away to run on what is there.')
    if getattr(args, 'amp', False) and get_device() == 'cpu':
        raise PreflightError(f'--amp needs a GPU, but {_no_gpu()} '
                             'Leave --amp away to train in float32, or take '
                                 '--cfg-options optim_wrapper.type='
                                 'BF16OptimWrapper to train in bfloat16.')
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    gpus = torch.cuda.device_count()
    if getattr(args, 'launcher', 'none') == 'pytorch' and 0 < gpus < processes:
        raise PreflightError(
            f'{processes} processes were started on this machine, which '
            f'shows {gpus} GPU{"s" * (gpus > 1)}. Start one process for each '
            'GPU.')
    if _is_first_process():
        check_operators(device or get_device())


def _check_start(args: Namespace, cfg: Config) -> None:
    """Check the checkpoint that training starts or goes on from."""
    if args.resume == 'auto':
        path = find_latest_checkpoint(_work_dir(args, cfg))
        if path is not None:
            _check_resume(cfg, path)
    elif args.resume is not None:
        _check_resume(cfg, args.resume)
    elif cfg.get('load_from'):
        if cfg.get('resume'):
            _check_resume(cfg, cfg.load_from)
        else:
            _warn_about_fine_tuning(cfg)


def _check_resume(cfg: Config, path: str) -> None:
    try:
        checkpoint = load_checkpoint(path)
    except CheckpointError as error:
        raise CheckpointError(f'{error}{_others_beside(path)}') from error
    if 'optimizer' not in checkpoint:
        raise CheckpointError(
            f'checkpoint {path} holds weights only, no optimizer to resume '
            f'with. Start from it with --cfg-options load_from={path}')
    require_full_match(cfg, path)


def _warn_about_fine_tuning(cfg: Config) -> None:
    checkpoint = load_checkpoint(cfg.load_from)
    match = match_config(cfg, checkpoint, cfg.load_from)
    if match.left_out:
        print_log(_fine_tuning_text(cfg, checkpoint, match), 'current',
                  logging.WARNING)


def _fine_tuning_text(cfg: Config, checkpoint: dict,
                      match: WeightsMatch) -> str:
    """The whole list: what starts untrained decides how to train on."""
    names = '\n'.join(f'  {name}' for name in match.left_out)
    reason = explain_mismatch(cfg, checkpoint, match).splitlines()[0]
    return (f'{cfg.load_from}: {match.loaded} tensors fit, '
            f'{len(match.left_out)} of the model keep their initial values; '
            f'{reason}\n{names}')


def _work_dir(args: Namespace, cfg: Config) -> str:
    """Where mmdet's tools/train.py will work."""
    default = osp.join('./work_dirs', Path(args.config).stem)
    return args.work_dir or cfg.get('work_dir') or default


def _others_beside(path: str) -> str:
    """Name the other checkpoints of a run, newest first."""
    folder = Path(path).parent
    others = sorted((p for p in folder.glob('*.pth') if p != Path(path)),
                    key=lambda p: p.stat().st_mtime, reverse=True)
    if not others:
        return ''
    return ' Others beside it: ' + ', '.join(str(p) for p in others[:5])


def _is_first_process() -> bool:
    """True for one process of each machine: the others need not repeat."""
    rank = os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', 0))
    return int(rank) == 0


def _no_gpu() -> str:
    if torch.version.cuda is None:
        return f'this torch ({torch.__version__}) is built without CUDA.'
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if visible is not None:
        return f'no GPU is visible (CUDA_VISIBLE_DEVICES={visible!r}).'
    return 'torch finds no GPU on this machine.'


def _similar(config: str) -> str:
    """Offer the configs with a like name, beside it or among ours."""
    known = {path.name: path for folder, pattern in
             ((Path(config).parent, '*.py'), (Path('configs'), '*/*.py'))
             for path in folder.glob(pattern)}
    close = get_close_matches(Path(config).name, list(known), n=3, cutoff=0.5)
    if not close:
        return ''
    return ' Did you mean ' + ', '.join(str(known[n]) for n in close) + '?'
