"""Few parameter groups rather than one for each parameter."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's, with all parameters of equal options in one group.

    With a ``paramwise_cfg`` mmengine makes a group of each parameter. On a GPU
    the optimizer then calls each of its kernels for every parameter, instead
    of once for all (torch's ``foreach``).
    """

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Add the options of a module's parameters, then join those that are equal."""
        super().add_params(params, module, prefix, **kwargs)
        if prefix:  # only the whole model's
            return
        groups: dict[str, dict] = {}
        for param in params:
            options = {key: value for key, value in param.items() if key != 'params'}
            group = groups.setdefault(str(sorted(options.items())), dict(options, params=[]))
            group['params'] += param['params']
        params[:] = groups.values()
