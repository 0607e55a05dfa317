"""Unpickling arrays of unknown origin without executing anything.

A pickle may call whatever it names. This unpickler knows only the names that
plain containers and numpy's arrays are made of, and ends at any other. Types
of elements are ours, not the file's: ``numpy.dtype.__setstate__`` trusts
flags in the file, and wrong ones corrupt memory.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np

from mmdet_centernet2.utils.errors import CheckpointError

FETCH_AGAIN = 'Fetch the file again and compare its size or checksum.'


def damaged(reason: object) -> CheckpointError:
    """What to raise for a file that ends early or holds nonsense."""
    text = (str(reason).strip().splitlines() or [type(reason).__name__])[0][:200]
    return CheckpointError(f'the file is damaged or cut off ({text}). {FETCH_AGAIN}')


# Element types that are read: kind and size in bytes.
_NUMBERS = ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'f2', 'f4', 'f8')


class _DType:
    """An element type and its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.number = code.lstrip('<>|=') if isinstance(code, str) else ''
        if self.number not in _NUMBERS:
            raise CheckpointError(
                f'an array of type {code!r} is in the file; only {", ".join(_NUMBERS)} are read, '
                'because objects can run code.'
            )
        self.order = '>' if code[0] == '>' else '<'

    def __setstate__(self, state: tuple) -> None:
        self.order = '>' if state[1] == '>' else '<'  # after the version


class _Array(np.ndarray):
    """An array that gets its content from the BUILD opcode."""

    def __new__(cls, *_: Any) -> _Array:
        return super().__new__(cls, 0)

    def __setstate__(self, state: tuple) -> None:
        # (version, shape, dtype, Fortran order, data); no version once.
        shape, kind, fortran, raw = state[-4:]
        if isinstance(raw, str):  # written by Python 2
            raw = raw.encode('latin1')
        if not (isinstance(kind, _DType) and isinstance(raw, (bytes, bytearray))):
            raise CheckpointError('an array is made of something but bytes.')
        if min(shape, default=0) < 0:
            raise damaged(f'an array of shape {shape}')
        # numpy compares the number of bytes, and makes the byte order native.
        dtype = np.dtype(kind.order + kind.number)
        content = (1, tuple(shape), dtype, bool(fortran), bytes(raw))
        super().__setstate__(content)  # type: ignore[arg-type]


def _from_buffer(raw: Any, dtype: Any, shape: Any = (), order: str = 'C', *_: Any) -> _Array:
    """In place of numpy's ``_frombuffer`` (protocol 5) and ``scalar``."""
    array = _Array()
    array.__setstate__((shape, dtype, order == 'F', raw))
    return array


_ALLOWED: dict[tuple[str, str], Any] = {
    ('numpy', 'ndarray'): _Array,
    ('numpy', 'dtype'): _DType,
    # Bytes in protocols 0 to 2.
    ('_codecs', 'encode'): lambda text, *_: text.encode('latin1'),
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


def load_arrays(file: BinaryIO) -> Any:
    """Read a pickle of numpy arrays, usually in a dictionary.

    Raises:
        CheckpointError: If it is damaged or holds anything else.
    """
    try:
        # latin1 keeps the bytes of Python 2's strings.
        content = _Unpickler(file, encoding='latin1').load()
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle fails in any way
        raise damaged(error) from error
    if file.read(1):
        raise CheckpointError(f'there is data after the end of the pickle. {FETCH_AGAIN}')
    return content
