"""Compile what is worth it of a training step."""

from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


@HOOKS.register_module()
class CompileHook(Hook):
    """``torch.compile`` for the forward and backward pass of a detector.

    mmengine's own switch, ``compile=True``, also compiles the optimizer's
    step and the bookkeeping around it, which recent versions of PyTorch
    refuse: their compiler takes plain dicts of parameters only, and
    mmengine's are not. Here the detector's ``loss`` is compiled. Targets,
    the matching of RoIs, pooling and deformable convolutions stay as they
    are: their shapes change with every image. Tensor names do not change.

    Args:
        **kwargs: See ``torch.compile``, such as ``mode`` and ``backend``.
    """

    def __init__(self, **kwargs: Any) -> None:
        self.options = kwargs

    def before_train(self, runner: Runner) -> None:
        """Compile; the work itself is done in the first iterations."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        model.loss = torch.compile(model.loss, **self.options)
        runner.logger.info('The model is compiled in the first iterations, which takes minutes.')
