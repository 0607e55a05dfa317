"""Unpickling arrays of unknown origin without executing anything.

A pickle may call whatever it names. This unpickler knows only the names that
plain containers and numpy's arrays are made of, and ends at any other. Arrays
are built from their bytes here, not by numpy's own methods:
``numpy.dtype.__setstate__`` trusts flags in the file, and wrong ones corrupt
memory.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np

from mmdet_centernet2.utils.errors import CheckpointError

FETCH_AGAIN = 'Fetch the file again and compare its size or checksum.'
# Element types that are read: kind and size in bytes.
_NUMBERS = ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'f2', 'f4', 'f8')


class _DType:
    """An element type and its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        number = code.lstrip('<>|=') if isinstance(code, str) else None
        if number in ('O', 'O8', 'object'):
            raise CheckpointError(
                'an array of Python objects is in the file; only arrays of numbers are read, '
                'because objects can run code.'
            )
        if number not in _NUMBERS:
            raise CheckpointError(
                f'an array of type {code!r} is in the file; only {", ".join(_NUMBERS)} are read.'
            )
        self.dtype = np.dtype(('>' if code[0] == '>' else '<') + number)

    def __setstate__(self, state: tuple) -> None:
        # (version, byte order, sub-array, names, fields, ...)
        if any(state[2:5]):
            raise CheckpointError(
                'a structured array is in the file; only plain arrays of numbers are read.'
            )
        self.dtype = self.dtype.newbyteorder('>' if state[1] == '>' else '<')


class _Array:
    """An array that gets its content from the BUILD opcode."""

    def __init__(self, *_: Any) -> None:
        self.array = np.empty(0, np.float32)

    def __setstate__(self, state: tuple) -> None:
        # (version, shape, dtype, Fortran order, data); no version once.
        shape, kind, fortran, raw = state[-4:]
        if isinstance(raw, str):  # written by Python 2
            raw = raw.encode('latin1')
        if not (isinstance(kind, _DType) and isinstance(raw, (bytes, bytearray))):
            raise CheckpointError('an array is made of something but bytes.')
        dtype, shape = kind.dtype, tuple(int(size) for size in shape)
        if min(shape, default=1) < 0 or len(raw) != dtype.itemsize * math.prod(shape):
            raise CheckpointError(
                f'an array of shape {list(shape)} and type {dtype} is given {len(raw)} bytes; '
                'the file is damaged.'
            )
        array = np.frombuffer(raw, dtype).reshape(shape, order='F' if fortran else 'C')
        # torch needs native byte order and memory that can be written.
        self.array = np.array(array, dtype.newbyteorder('='), order='C')


def _from_buffer(raw: Any, dtype: Any, shape: Any = (), order: str = 'C', *_: Any) -> _Array:
    """In place of numpy's ``_frombuffer`` (protocol 5)."""
    array = _Array()
    array.__setstate__((shape, dtype, order == 'F', raw))
    return array


def _encode(text: Any, encoding: str = 'latin1') -> bytes:
    """In place of ``codecs.encode``, which protocols 0 to 2 use for bytes."""
    if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
        raise CheckpointError('bytes in an unknown encoding are in the file.')
    return text.encode('latin1')


_ALLOWED: dict[tuple[str, str], Any] = {
    ('numpy', 'ndarray'): _Array,
    ('numpy', 'dtype'): _DType,
    ('_codecs', 'encode'): _encode,
    # How protocols 0 to 2 spell b''.
    ('__builtin__', 'bytes'): lambda: b'',
    ('builtins', 'bytes'): lambda: b'',
    ('collections', 'OrderedDict'): OrderedDict,
}
for _core in ('numpy.core', 'numpy._core'):  # numpy 1 and 2
    _ALLOWED[f'{_core}.multiarray', '_reconstruct'] = _Array
    _ALLOWED[f'{_core}.multiarray', 'scalar'] = lambda dtype, raw=b'': _from_buffer(raw, dtype)
    _ALLOWED[f'{_core}.numeric', '_frombuffer'] = _from_buffer


class _Unpickler(pickle._Unpickler):
    """Refuses every name that is not in :data:`_ALLOWED`.

    In Python: with the C one, a damaged index takes all of the memory.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise CheckpointError(
                f'the file names the function or class {module}.{name}. Reading it could run code, '
                'so it was not read. Only numpy arrays in dictionaries are; take the file from its '
                'authors, or save its arrays again.'
            )
        return _ALLOWED[module, name]


def _unwrap(root: dict) -> None:
    """Put arrays in the place of :class:`_Array`, through all dictionaries."""
    seen, stack = set(), [root]
    while stack:
        node = stack.pop()
        seen.add(id(node))
        for key, value in node.items():
            if isinstance(value, _Array):
                node[key] = value.array
            elif isinstance(value, dict) and id(value) not in seen:
                stack.append(value)


def load_arrays(file: BinaryIO) -> Any:
    """Read a pickle of numpy arrays, usually in a dictionary.

    Raises:
        CheckpointError: If it is damaged or holds anything else.
    """
    try:
        # latin1 keeps the bytes of Python 2's strings.
        root = {'content': _Unpickler(file, encoding='latin1').load()}
        _unwrap(root)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle fails in any way
        raise CheckpointError(
            f'the pickle is damaged or cut off ({type(error).__name__}: {error}). {FETCH_AGAIN}'
        ) from error
    if file.read(1):
        raise CheckpointError(f'there is data after the end of the pickle. {FETCH_AGAIN}')
    return root['content']
