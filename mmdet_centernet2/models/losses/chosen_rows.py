"""Some rows of a large weight, with a gradient that costs little more."""
import mmap
from typing import Tuple

import torch
from torch import Tensor


def untouched_zeros(like: Tensor) -> Tensor:
    """Zeros that are not written: on a CPU the system clears pages on demand.

    Args:
        like (Tensor): Whose shape, type and device to take.

    Returns:
        Tensor: Contiguous.
    """
    if like.device.type != 'cpu' or not like.numel():
        return torch.zeros(like.shape, dtype=like.dtype, device=like.device)
    memory = mmap.mmap(-1, like.numel() * like.element_size())
    return torch.frombuffer(memory, dtype=like.dtype).view(like.shape)


class _ChosenRows(torch.autograd.Function):
    """``weight[rows]`` for distinct rows."""

    @staticmethod
    def forward(ctx, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(weight, rows)
        return weight.index_select(0, rows)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Tensor, None]:
        weight, rows = ctx.saved_tensors
        return untouched_zeros(weight).index_copy_(0, rows, grad), None


def chosen_rows(weight: Tensor, rows: Tensor) -> Tensor:
    """Take distinct rows of a weight.

    Optimizers with weight decay or momentum need a gradient of the whole
    weight, nearly all zeros. It is made once, and on a CPU only the pages of
    the chosen rows are written here.

    Args:
        weight (Tensor): Shape (N, ...).
        rows (Tensor): Distinct row numbers, int64, shape (k, ).

    Returns:
        Tensor: Shape (k, ...).
    """
    return _ChosenRows.apply(weight, rows)
