"""Make mmengine's checkpoints readable by torch's restricted unpickler.

``torch.load`` refuses every class that is not on its allow-list, and a
checkpoint of mmengine holds a few: the log history, numpy scalars in the
message hub and the data set's meta information, and the state of schedulers.
Exactly these are put on the list. The restriction stays on: a file that holds
anything else is refused, and nothing in it is executed.
"""

from _codecs import encode
from collections import Counter
from collections.abc import Callable
from functools import cache
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

# Every fixed-size number, plus text. Object and record dtypes stay refused.
_DTYPE_CODES = '?bhilqBHILQefdgFDGSU'
# numpy 2 moved the module; a file keeps the name its writer's numpy had.
_NUMPY_MODULES = ('numpy.core.multiarray', 'numpy._core.multiarray')
# Methods that mmengine pickles by name, as ``getattr(owner, name)``.
_PICKLED_METHODS = {
    HistoryBuffer: ('min', 'max', 'current', 'mean'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def pickled_method(owner: Any, name: str) -> Callable:
    """In the place of ``getattr``: only the attributes that a checkpoint needs.

    Log histories and ``OneCycleLR`` keep methods of their class in their state,
    which pickle spells ``getattr(HistoryBuffer, 'mean')``.
    """
    if isinstance(owner, type) and name in _PICKLED_METHODS.get(owner, ()):
        return getattr(owner, name)
    raise UnpicklingError(
        f'refused: the file asks for {name!r} of {owner!r}, which no checkpoint of mmengine needs'
    )


@cache
def mmengine_safe_globals() -> tuple[tuple[Callable, str], ...]:
    """The entries for ``torch.serialization.add_safe_globals``.

    As pairs with their names, also where torch knows the name: onedl-mmengine
    takes the bare classes off the list after each file that it has read.
    """
    numbers = {type(np.dtype(code)) for code in _DTYPE_CODES}
    known = (HistoryBuffer, OneCycleParamScheduler, Counter, np.ndarray, np.dtype, *numbers)
    named = {f'{one.__module__}.{one.__qualname__}': one for one in known}
    named['_codecs.encode'] = encode  # how pickle spells the bytes of a numpy array
    reconstruct, scalar = np.empty(0).__reduce__()[0], np.float32().__reduce__()[0]
    for module in _NUMPY_MODULES:
        named |= {f'{module}._reconstruct': reconstruct, f'{module}.scalar': scalar}
    named['builtins.getattr'] = pickled_method
    return tuple((one, name) for name, one in named.items())


def allow_mmengine_checkpoints() -> None:
    """Register the classes of mmengine's checkpoints with torch."""
    torch.serialization.add_safe_globals(list(mmengine_safe_globals()))
