"""Imported by the configs of the distributed test: looks into a training.

Not a test module. It runs inside the processes that tools/dist_train.sh and
tools/train.py start.
"""

from __future__ import annotations

from pathlib import Path

import torch
from mmdet.models.task_modules.samplers import RandomSampler
from mmdet.registry import HOOKS, TASK_UTILS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor


@TASK_UTILS.register_module()
class FirstComeSampler(RandomSampler):
    """``RandomSampler`` without chance: takes the first ones."""

    def random_choice(self, gallery: Tensor, num: int) -> Tensor:
        return gallery[:num]


@HOOKS.register_module()
class RecordingHook(Hook):
    """Writes losses and gradients of each iteration to a file.

    Args:
        folder (str): Where ``iter{i}_rank{r}.pth`` go.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.grads: dict[str, Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        # mmengine clears the gradients before any hook comes to see them.
        named = list(runner.model.named_parameters())

        def keep(*_) -> None:
            self.grads = {
                name.removeprefix('module.'): param.grad.clone()
                for name, param in named
                if param.grad is not None
            }

        runner.optim_wrapper.optimizer.register_step_pre_hook(keep)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: dict
    ) -> None:
        losses = {name: torch.as_tensor(value).float().cpu() for name, value in outputs.items()}
        name = f'iter{runner.iter}_rank{get_rank()}.pth'
        torch.save(dict(losses=losses, grads=self.grads), self.folder / name)
