"""A pretended GPU: tensors that say they are elsewhere and are computed on the CPU.

As with CUDA, an operator refuses to mix them with tensors of the CPU, but for
scalars, for indices and for copies. The device is called ``meta``: torch has no
autograd for ``cuda`` where it is built without.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from mmcv.utils import ext_loader
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.test_models.operators import Operators

GPU = torch.device('meta')
aten = torch.ops.aten
_COPIES = {aten.copy_.default, aten._to_copy.default}
# Their first tensor decides; CUDA takes indices of the CPU.
_INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
#: Operators that neither compute nor copy, beside views.
_NO_WORK = {'empty', 'empty_like', 'new_empty', 'empty_strided', 'detach', '_unsafe_view', 'set_'}
#: Those that count what is called now.
_counts: list['Counts'] = []
#: Of mmcv's compiled functions, what the detectors call.
_COMPILED = (
    'nms',
    'roi_align_forward',
    'roi_align_backward',
    'modulated_deform_conv_forward',
    'modulated_deform_conv_backward',
)


class Counts:
    """What a training step pays on a GPU.

    Attributes:
        calls (int): Operators with a tensor there, mmcv's included, but for views
            and empty tensors, for which it has nothing to do.
        waits (list[str]): Those that the host waits for.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.waits: list[str] = []

    def add(self, func: Callable, args: tuple, kwargs: dict, result: Any) -> None:
        if not any(isinstance(x, OnGPU) for x in tree_leaves((args, kwargs, result))):
            return
        name = func.overloadpacket.__name__
        self.calls += not func.is_view and name not in _NO_WORK
        if func in _COPIES:
            target, source = (args[0], args[1]) if name == 'copy_' else (result, args[0])
            blocking = not (kwargs.get('non_blocking') or args[2:] == (True,))
            leaves = isinstance(source, OnGPU)
            waits = leaves != isinstance(target, OnGPU) and (leaves or blocking)
        else:  # indices of the host are copied
            on_host = func in _INDEXING and any(
                isinstance(i, Tensor) and not isinstance(i, OnGPU) for i in args[1]
            )
            waits = on_host or Operators.waits_for(name, args, kwargs)
        if waits:
            self.waits.append(name)


class OnGPU(Tensor):
    """Says that it is on the GPU; ``inner`` is on the CPU."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> 'OnGPU':
        return Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=GPU,
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None) -> Any:
        return _run(func, args, kwargs or {})


class _Operators(TorchDispatchMode):
    """Also operators without such a tensor: factories, and moves to the GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        return _run(func, args, kwargs or {})


class _Lists(TorchFunctionMode):
    """Tensors from and to Python's numbers, without an operator."""

    def __torch_function__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.tolist:
            return func(args[0].cpu())
        if func not in (torch.tensor, torch.as_tensor, Tensor.new_tensor):
            return func(*args, **kwargs)
        device = kwargs.pop('device', args[0].device if func is Tensor.new_tensor else None)
        return func(*args, device='cpu', **kwargs).to(device or 'cpu')


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnGPU) else value


def _refuse_mixture(name: str, tensors: list[Tensor]) -> None:
    devices = {t.device for t in tensors if t.dim()}
    if len(devices) > 1:
        raise RuntimeError(f'{name}: tensors on several devices, {sorted(map(str, devices))}')


def _run(func: Callable, args: tuple, kwargs: dict) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    on_gpu = any(isinstance(t, OnGPU) for t in tensors)
    if func in _COPIES or func in _INDEXING:
        on_gpu = isinstance(args[0], OnGPU)
        if func in _INDEXING and not on_gpu:
            _refuse_mixture(str(func), tensors)
    else:
        _refuse_mixture(str(func), tensors)
    if kwargs.get('device') is not None:
        on_gpu = torch.device(kwargs['device']) == GPU
        kwargs = dict(kwargs, device='cpu')
    result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if on_gpu:
        known = {id(_inner(t)): t for t in tensors}  # what works in place gives its argument back
        result = tree_map(
            lambda t: known.get(id(t), OnGPU(t)) if isinstance(t, Tensor) else t, result
        )
    for counts in _counts:
        counts.add(func, args, kwargs, result)
    return result


def _compiled(function: Callable) -> Callable:
    """One of mmcv's functions, which torch does not dispatch."""

    def call(*args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        _refuse_mixture(function.__name__, tensors)
        result = function(*map(_inner, args), **{k: _inner(v) for k, v in kwargs.items()})
        for counts in _counts:
            counts.calls += 1
            if function.__name__ == 'nms':  # its result has as many boxes as it finds
                counts.waits.append('nms')
        return OnGPU(result) if isinstance(result, Tensor) and tensors[0].device == GPU else result

    return call


@contextmanager
def counted() -> Iterator[Counts]:
    """Count what is called on the pretended GPU."""
    counts = Counts()
    _counts.append(counts)
    try:
        yield counts
    finally:
        _counts.remove(counts)


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Within it, ``GPU`` is a device that tensors and models can be moved to."""
    extension = ext_loader.load_ext('_ext', ['nms'])
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with ExitStack() as stack:
            for name in _COMPILED:
                function = _compiled(getattr(extension, name))
                stack.enter_context(mock.patch.object(extension, name, function))
            # InstanceData looks at the types of indices
            kinds = str | slice | int | list | np.ndarray | Tensor
            stack.enter_context(mock.patch('mmengine.structures.instance_data.IndexType', kinds))
            stack.enter_context(_Operators())
            stack.enter_context(_Lists())
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
