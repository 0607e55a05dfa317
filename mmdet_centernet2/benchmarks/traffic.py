"""What an eager run asks of a device: operations and bytes."""
from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Tuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class Demand(NamedTuple):
    """What one call needs.

    Args:
        operations (int): Floating point operations of convolutions and matrix
            products; a multiply-add is two.
        num_bytes (int): Read and written, if every operator reads all of its
            tensors from memory and writes all of its results: what fusion and
            caches save is not taken off.
    """

    operations: int
    num_bytes: int


class _CountBytes(TorchDispatchMode):
    """Sums up the tensors of every operator that is not a view."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.num_bytes += sum(
                leaf.numel() * leaf.element_size()
                for leaf in tree_leaves((args, kwargs, out))
                if isinstance(leaf, Tensor))
        return out


def demand(call: Callable[[], object]) -> Demand:
    """Count what a call does; mmcv's own operators are not seen.

    Args:
        call (Callable): Eager, not compiled.
    """
    counter, traffic = FlopCounterMode(display=False), _CountBytes()
    with counter, traffic:
        call()
    return Demand(counter.get_total_flops(), traffic.num_bytes)


#: Kinds of GPU kernels by what their names contain, the first that fits.
KINDS: Dict[str, Tuple[str, ...]] = {
    'NMS': ('nms', ),
    'RoIAlign': ('roi_align', ),
    'copies': ('memcpy', 'memset', 'copy', 'cat'),
    'convolutions and matrix products': (
        'conv', 'gemm', 'cutlass', 'cudnn', 'wgrad', 'dgrad', 'fprop',
        'xmma', 'matmul', 'nvjet'),
    'norms': ('norm', 'bn_'),
    'optimizer': ('multi_tensor', 'adam', 'sgd'),
    'sorting, indexing': ('sort', 'topk', 'radix', 'index', 'scatter',
                          'gather', 'scan'),
    'reductions': ('reduce', ),
    'elementwise': ('elementwise', 'triton'),
}


def kind_of(kernel: str) -> str:
    """Kind of a GPU kernel."""
    name = kernel.lower()
    for kind, parts in KINDS.items():
        if any(part in name for part in parts):
            return kind
    return 'others'


def kernel_seconds(call: Callable[[], object]) -> Dict[str, float]:
    """Time that a GPU spends in each kind of kernel during a call.

    Args:
        call (Callable): One piece of work.

    Returns:
        dict[str, float]: Seconds by kind, the longest first.
    """
    with profile(
            activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
        call()
        torch.cuda.synchronize()
    kernels = [event for event in record.events()
               if event.device_type == torch.autograd.DeviceType.CUDA]
    return sum_kinds([(event.name, event.time_range.elapsed_us() * 1e-6)
                      for event in kernels])


def sum_kinds(kernels: List[Tuple[str, float]]) -> Dict[str, float]:
    """Seconds by kind, from (name, seconds) of each kernel."""
    total: Dict[str, float] = {}
    for name, seconds in kernels:
        kind = kind_of(name)
        total[kind] = total.get(kind, 0.) + seconds
    return dict(sorted(total.items(), key=lambda item: -item[1]))
