"""Running code that was written for numpy < 1.24 on today's numpy."""
import types
from typing import Any, Callable

import numpy as np


class OldNumpy:
    """numpy with what 1.24 took away and evaluation code still uses."""
    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def array(items: Any, *args, **kwargs) -> np.ndarray:
        """``np.array`` that makes ragged lists an array of objects."""
        try:
            return np.array(items, *args, **kwargs)
        except ValueError:
            ragged = np.empty(len(items), dtype=object)
            for index, item in enumerate(items):
                ragged[index] = item
            return ragged


def with_names(function: Callable, **names) -> Callable:
    """Copy a function, giving other values to some global names it uses.

    So one function sees another numpy, and nobody else does.

    Args:
        function (Callable): A plain Python function; it stays as it is.
        **names: The values.

    Returns:
        Callable: The copy.
    """
    copy = types.FunctionType(function.__code__,
                              {**function.__globals__, **names},
                              function.__name__, function.__defaults__,
                              function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
