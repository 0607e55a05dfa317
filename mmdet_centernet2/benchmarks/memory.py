"""Peak memory of a call, above what was held before it."""
from __future__ import annotations

from typing import Callable

import torch
from torch.profiler import ProfilerActivity, profile

MB = 1e6


def extra_memory(call: Callable[[], object],
                 device: torch.device | str = 'cpu') -> float:
    """Highest amount of tensor memory that a call holds at one time.

    If the call has a ``release``, that is called first: it drops what was
    kept from the last time.

    On a GPU it is that of torch's caching allocator. On a CPU it is summed
    up from the allocations and releases that torch's profiler records:
    exact, the same in every run, and untouched by what the C library keeps.
    Both hold results, intermediate values, what is saved for the backward
    pass and the work space of oneDNN; not what Python, numpy or cuDNN's
    handles take.

    Args:
        call (Callable): One piece of work.
        device (torch.device or str): Where it works.

    Returns:
        float: In MB (1e6 bytes), never negative.
    """
    getattr(call, 'release', lambda: None)()
    if torch.device(device).type == 'cuda':
        return _extra_on_gpu(call)
    with profile(
            activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak / MB


def _extra_on_gpu(call: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / MB
