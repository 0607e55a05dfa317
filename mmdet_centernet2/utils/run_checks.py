"""Checks of the schedule and of the operators, before a run."""
from __future__ import annotations

import torch
from mmcv.ops import nms
from mmdet.datasets.samplers import MultiSourceSampler
from mmdet.registry import DATA_SAMPLERS, LOOPS
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.runner import EpochBasedTrainLoop

from mmdet_centernet2.utils.errors import PreflightError

#: Their subclasses never end either.
ENDLESS_SAMPLERS = (InfiniteSampler, MultiSourceSampler)


def check_schedule(cfg: Config) -> None:
    """Check that an epoch of an epoch-based training ends.

    Args:
        cfg (Config): The whole config.

    Raises:
        PreflightError: If ``train_cfg`` mixes both kinds of loops, or counts
            epochs of a sampler that never ends.
    """
    loop = cfg.get('train_cfg') or {}
    if 'max_iters' in loop and 'max_epochs' in loop:
        raise PreflightError(
            'train_cfg has both max_iters and max_epochs. To replace an '
            'inherited train_cfg, write train_cfg = dict(_delete_=True, '
            "type='EpochBasedTrainLoop', max_epochs=...) in the config.")
    by_epoch = _is_a(LOOPS, loop.get('type'), EpochBasedTrainLoop)
    if not by_epoch and not loop.get('by_epoch'):
        return
    sampler = (cfg.get('train_dataloader') or {}).get('sampler') or {}
    if _is_a(DATA_SAMPLERS, sampler.get('type'), ENDLESS_SAMPLERS):
        raise PreflightError(
            f'train_dataloader.sampler: {sampler["type"]} never ends, so '
            'the EpochBasedTrainLoop of train_cfg would never finish epoch 1. '
            'Set train_dataloader = dict(sampler=dict(_delete_=True, '
            "type='DefaultSampler', shuffle=True)), or train by iterations: "
            "train_cfg = dict(_delete_=True, type='FastResumeTrainLoop', "
            'max_iters=...).')


def check_operators(device: str) -> None:
    """Check that mmcv's operators were compiled for a GPU.

    Args:
        device (str): That the model will run on. Other devices than CUDA's are
            not looked at.

    Raises:
        PreflightError: If NMS of two boxes fails.
    """
    if not device.startswith('cuda'):
        return
    try:
        run_nms(device)
    except RuntimeError as error:
        arch = '.'.join(map(str, torch.cuda.get_device_capability(device)))
        reason = str(error).strip().splitlines()[0]
        raise PreflightError(
            f"mmcv's operators do not run on {device} "
            f'({torch.cuda.get_device_name(device)}): {reason} Compile them '
            f'for it: FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST={arch} bash '
            'tools/quickstart.sh --setup-only (needs nvcc; docs/install.md). '
            'To run on the CPU, hide the GPU: CUDA_VISIBLE_DEVICES=') from error


def run_nms(device: str) -> list[int]:
    """Indices that mmcv's NMS keeps of two overlapping boxes."""
    boxes = torch.tensor([[0., 0., 9., 9.], [0., 0., 9., 8.]], device=device)
    return nms(boxes, boxes.new_tensor([0.9, 0.8]), 0.5)[1].tolist()


def _is_a(registry, name: object, kinds: type | tuple[type, ...]) -> bool:
    """Whether a ``type`` of a config stands for one of the classes."""
    found = registry.get(name) if isinstance(name, str) else name
    return isinstance(found, type) and issubclass(found, kinds)
