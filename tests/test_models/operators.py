"""Which operators of torch are called, and what for."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Operators that make the host wait for a GPU: the size of their result
#: depends on numbers, or they hand out a number.
WAITING = (
    'nonzero',
    'masked_select',
    '_local_scalar_dense',
    '_unique2',
    'unique_dim',
    'unique_consecutive',
    'equal',
    'is_nonzero',
    'bincount',
    'repeat_interleave',
)


class Operators(TorchDispatchMode):
    """Counts what matters on a GPU, on a CPU.

    Attributes:
        waits (list[str]): Operators that would make the host wait for a GPU,
            copies from the host included.
        new_sizes (list[int]): Numbers of elements of all tensors that were
            allocated.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.new_sizes: list[int] = []
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.calls += 1
        name = func.overloadpacket.__name__
        if self.waits_for(name, args, kwargs):
            self.waits.append(name)
        given = {
            x.untyped_storage().data_ptr()
            for x in tree_leaves((args, kwargs))
            if torch.is_tensor(x)
        }
        for x in tree_leaves(out):
            if torch.is_tensor(x) and x.untyped_storage().data_ptr() not in given:
                self.new_sizes.append(x.numel())
        return out

    @staticmethod
    def waits_for(name: str, args: tuple, kwargs: dict) -> bool:
        """Whether a call makes the host wait."""
        if name == 'repeat_interleave':
            return kwargs.get('output_size') is None
        if name in ('index', 'index_put', 'index_put_'):
            return any(torch.is_tensor(i) and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        # torch.tensor of a list: a copy from the host
        return name in WAITING or name == 'lift_fresh'
