"""Mixed precision without a GPU, and without loss scaling."""
import contextlib
from typing import Iterator

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner.amp import autocast
from torch import nn


@OPTIM_WRAPPERS.register_module()
class BF16OptimWrapper(OptimWrapper):
    """Train under bfloat16 autocast, on a CPU or a GPU.

    bfloat16 has the range of FP32, so losses need no scaling. mmengine's
    ``AmpOptimWrapper``, which ``--amp`` switches on, wants a GPU. Use it by
    ``--cfg-options optim_wrapper.type=BF16OptimWrapper``.

    Args:
        **kwargs: See mmengine's ``OptimWrapper``.
    """

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast.

        Args:
            model (nn.Module): The model that is trained.
        """
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
