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
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

# Every fixed-size number, plus text. Object and record dtypes stay refused.
_DTYPES = {type(np.dtype(code)) for code in '?bhilqBHILQefdgFDGSU'}
# Methods that mmengine pickles by name, as ``getattr(owner, name)``.
_PICKLED_METHODS = {
    HistoryBuffer: ('min', 'max', 'current', 'mean'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def pickled_method(owner: Any, name: str) -> Callable:
    """In the place of ``getattr``: only the methods that mmengine keeps in a state."""
    if isinstance(owner, type) and name in _PICKLED_METHODS.get(owner, ()):
        return getattr(owner, name)
    raise UnpicklingError(
        f'refused: the file asks for {name!r} of {owner!r}, which no checkpoint of mmengine needs'
    )


def allow_mmengine_checkpoints() -> None:
    """Register the classes of mmengine's checkpoints with torch.

    With their names, also where torch knows the name: onedl-mmengine takes the
    bare classes off the list after each file that it has read.
    """
    known = (HistoryBuffer, OneCycleParamScheduler, Counter, np.ndarray, np.dtype, *_DTYPES)
    named = {f'{one.__module__}.{one.__qualname__}': one for one in known}
    named['_codecs.encode'] = encode  # how pickle spells the bytes of a numpy array
    named['builtins.getattr'] = pickled_method
    reconstruct, scalar = np.empty(0).__reduce__()[0], np.float32().__reduce__()[0]
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):  # numpy 1 and 2
        named |= {f'{module}._reconstruct': reconstruct, f'{module}.scalar': scalar}
    torch.serialization.add_safe_globals([(one, name) for name, one in named.items()])
