"""Reading checkpoints of unknown origin without executing any of them.

A pickle is a program: loading one calls whatever functions it names. Here it
may name only the handful that numpy arrays are made of, and even those are
replaced by stand-ins of our own, which note what was asked for. Every other
name ends the reading with an error before anything is called.
"""

import math
import pickle
import re
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, Dict, Mapping, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from .errors import CheckpointError
from .safetensors_file import is_safetensors, load_safetensors

# First bytes of the pickle that opens a file of torch.save before torch 1.6:
# the number 0x1950a86a20f9469cfc6c.
_TORCH_LEGACY = b'\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
_ZIP = b'PK\x03\x04'
_GIT_LFS = b'version https://git-lfs'

# Element types of arrays: kind and size in bytes as numpy spells them.
_DTYPES = ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'f2', 'f4', 'f8')
_AGAIN = 'Fetch the file again and compare its size or checksum.'


class _DType:
    """Stand-in for ``numpy.dtype``: an element type and its byte order."""

    def __init__(self, text: Any, *_: Any) -> None:
        if text in ('O', 'O8', 'object'):
            raise CheckpointError(
                'an array of Python objects is in the file; only arrays of '
                'numbers are read, because objects can run code.')
        if not isinstance(text, str) or text.lstrip('<>|=') not in _DTYPES:
            raise CheckpointError(
                f'an array of type {text!r} is in the file; only numbers '
                f'({", ".join(_DTYPES)}) are read.')
        self.order, self.text = '<', text.lstrip('<>|=')
        if text.startswith('>'):
            self.order = '>'

    def __setstate__(self, state: Tuple) -> None:
        # (version, byte order, sub-array, names, fields, ...)
        if any(state[2:5]):
            raise CheckpointError(
                'a structured array is in the file; only plain arrays of '
                'numbers are read.')
        self.order = '>' if state[1] == '>' else '<'

    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.text)


def _build(raw: Any, shape: Any, dtype: Any, fortran: bool) -> np.ndarray:
    """An array from the parts that a pickle gives."""
    if not isinstance(dtype, _DType):
        raise CheckpointError('an array without an element type.')
    if isinstance(raw, str):  # written by Python 2
        raw = raw.encode('latin1')
    if not isinstance(raw, (bytes, bytearray)):
        raise CheckpointError(
            f'an array is made of a {type(raw).__name__} instead of bytes.')
    kind, shape = dtype.numpy(), tuple(int(size) for size in shape)
    if min(shape, default=1) < 0 or len(raw) != kind.itemsize * math.prod(
            shape):
        raise CheckpointError(
            f'an array of shape {list(shape)} and type {dtype.text} is given '
            f'{len(raw)} bytes; the file is damaged.')
    array = np.frombuffer(raw, kind).reshape(shape,
                                             order='F' if fortran else 'C')
    # Native byte order and memory of its own, which torch asks for.
    return np.array(array, kind.newbyteorder('='), order='C')


class _Array:
    """Stand-in for an array that is told its content by ``BUILD``."""

    def __init__(self, *_: Any) -> None:
        self.array = np.empty(0, np.float32)

    def __setstate__(self, state: Tuple) -> None:
        # (version, shape, dtype, Fortran order, data); no version once.
        shape, dtype, fortran, raw = state[-4:]
        self.array = _build(raw, shape, dtype, fortran)


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: str = 'C',
                 *_: Any) -> _Array:
    """Stand-in for numpy's ``_frombuffer``, used since protocol 5."""
    holder = _Array()
    holder.array = _build(raw, shape, dtype, order == 'F')
    return holder


def _scalar(dtype: Any, raw: Any = b'') -> _Array:
    """Stand-in for numpy's ``scalar``."""
    holder = _Array()
    holder.array = _build(raw, (), dtype, False)
    return holder


def _encode(text: Any, encoding: str = 'latin1') -> bytes:
    """Stand-in for ``codecs.encode``, which old protocols keep bytes in."""
    if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
        raise CheckpointError('bytes in an unknown encoding are in the file.')
    return text.encode('latin1')


def _no_bytes() -> bytes:
    """Stand-in for ``bytes``, as which old protocols keep empty ones."""
    return b''


def _allowed() -> Dict[Tuple[str, str], Any]:
    names: Dict[Tuple[str, str], Any] = {
        ('numpy', 'ndarray'): _Array,
        ('numpy', 'dtype'): _DType,
        ('_codecs', 'encode'): _encode,
        ('__builtin__', 'bytes'): _no_bytes,
        ('builtins', 'bytes'): _no_bytes,
        ('collections', 'OrderedDict'): OrderedDict,
    }
    for core in ('numpy.core', 'numpy._core'):  # numpy 1 and 2
        names[f'{core}.multiarray', '_reconstruct'] = _Array
        names[f'{core}.multiarray', 'scalar'] = _scalar
        names[f'{core}.numeric', '_frombuffer'] = _from_buffer
    return names


class ArrayUnpickler(pickle.Unpickler):
    """Unpickler of containers, numbers, strings and numpy arrays only.

    Args:
        file (BinaryIO): What to read from.

    Raises:
        CheckpointError: by :meth:`load`, when anything else is named.
    """

    _ALLOWED = _allowed()

    def __init__(self, file: BinaryIO) -> None:
        # latin1 keeps the bytes of Python 2's strings.
        super().__init__(file, encoding='latin1')

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise CheckpointError(
                f'the file names the function or class {module}.{name}. '
                'Reading it could run code, so it was not read. Only numpy '
                'arrays in dictionaries are; take the file from its '
                'authors, or save its arrays again.') from None

    def persistent_load(self, pid: Any) -> Any:
        raise CheckpointError(
            'the file refers to data outside of it; it is no checkpoint of '
            'numpy arrays.')


def _plain(value: Any) -> Any:
    """Arrays in place of their stand-ins, down through dictionaries."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def load_arrays(file: BinaryIO) -> Any:
    """Read a pickle of numpy arrays.

    Args:
        file (BinaryIO): What to read from.

    Returns:
        The content, usually a dictionary.

    Raises:
        CheckpointError: if it is damaged or holds anything else.
    """
    try:
        content = _plain(ArrayUnpickler(file).load())
    except CheckpointError:
        raise
    # A damaged pickle fails in any way a program can.
    except Exception as error:
        raise CheckpointError(
            'the pickle is damaged or cut off '
            f'({type(error).__name__}: {error}). {_AGAIN}') from error
    if file.read(1):
        raise CheckpointError(
            f'there is data after the end of the pickle. {_AGAIN}')
    return content


def read_checkpoint(path: Union[str, Path]) -> Dict[str, Any]:
    """Read a checkpoint file, whatever its kind, executing nothing.

    Kinds are told by content, not by name: files of ``torch.save``, old and
    new, of ``safetensors``, and pickles of numpy arrays.

    Args:
        path (str | Path): A local file.

    Returns:
        dict: What the file holds.

    Raises:
        CheckpointError: if it cannot be read, with the path in the message.
    """
    try:
        if '://' in str(path):
            raise CheckpointError('is an address. Download the file first.')
        content = _read(Path(path))
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error.__cause__
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f'{path}: holds a {type(content).__name__} instead of a '
            'dictionary of tensors; it is no checkpoint.')
    return dict(content)


def _read(path: Path) -> Any:
    _must_be_file(path)
    try:
        with path.open('rb') as file:
            head = file.read(512)
            file.seek(0)
            if head.startswith(_ZIP):
                _check_archive(file)
                return _load_torch(file)
            if _TORCH_LEGACY in head[:32]:
                return _load_torch(file)
            if is_safetensors(head):
                return load_safetensors(path)
            _must_be_pickle(head, file)
            return load_arrays(file)
    except OSError as error:
        raise CheckpointError(
            f'cannot be read: {error.strerror or error}') from error


def _must_be_file(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError('is a folder; give the checkpoint file in it.')
    if not path.exists():
        raise CheckpointError('no such file.')
    if path.stat().st_size == 0:
        raise CheckpointError(f'the file is empty. {_AGAIN}')


def _must_be_pickle(head: bytes, file: BinaryIO) -> None:
    """Name the usual things that are mistaken for a checkpoint."""
    text = head.lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if text.startswith((b'<!doctype', b'<html', b'<?xml', b'<head')):
        raise CheckpointError(
            'is a web page, not a checkpoint: the download got an error or '
            'log-in page. Download the file itself.')
    if text.startswith(_GIT_LFS):
        raise CheckpointError(
            'is a Git LFS pointer, not the file; run `git lfs pull`.')
    if _is_tar(file):
        raise CheckpointError(
            'is a tar archive. Unpack it first; a checkpoint in the tar '
            'format of torch before 0.1.10 cannot be read safely.')
    if not head.startswith(b'\x80') and head[:1] not in b'(}]c':
        raise CheckpointError(
            f'starts with {head[:8]!r}: neither a file of torch.save nor a '
            f'pickle. {_AGAIN}')


def _is_tar(file: BinaryIO) -> bool:
    try:
        with tarfile.open(fileobj=file, mode='r:') as archive:
            return archive.next() is not None
    except tarfile.TarError:
        return False
    finally:
        file.seek(0)


def _check_archive(file: BinaryIO) -> None:
    """Compare the checksums in a file of torch.save with its content."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
    except Exception as error:  # damaged archives fail in many ways
        raise CheckpointError(
            f'the file is damaged or cut off ({error}). {_AGAIN}') from error
    finally:
        file.seek(0)
    if damaged is not None:
        raise CheckpointError(
            f'the file is damaged: the checksum of {damaged!r} in it is '
            f'wrong. {_AGAIN}')
    if any(name.endswith('/constants.pkl') for name in names):
        raise CheckpointError(
            'is a TorchScript program, not a checkpoint; save the state '
            'dict of the model instead.')


def _load_torch(file: BinaryIO) -> Any:
    """``torch.load`` with ``weights_only``, and errors that say what to do."""
    try:
        return torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # damaged files fail in any way
        foreign = re.search(r'nsupported (?:global: )?(.*?)(?: was |\. |$)',
                            str(error), re.MULTILINE)
        if isinstance(error, pickle.UnpicklingError) and foreign:
            raise CheckpointError(
                'holds more than tensors and plain values, and reading that '
                f'could run code, so it was not read ({foreign[1]}). Take the '
                'file from its authors, or save its state dict alone.'
            ) from error
        reason = (str(error).strip().splitlines() or ['no reason given'])[0]
        raise CheckpointError(
            'the file is damaged or cut off '
            f'({type(error).__name__}: {reason[:200]}). {_AGAIN}') from error


def tensors_of(content: Mapping[str, Any], path: object) -> Dict[str, Tensor]:
    """The tensors in a checkpoint's content, out of what is around them.

    Args:
        content (Mapping): What :func:`read_checkpoint` returned: a state
            dict, or one under ``model`` (detectron2), ``state_dict``
            (mmengine) or ``blobs`` (Caffe2), beside other things.
        path: Name of the file, for messages.

    Returns:
        dict: Name -> tensor. Arrays become tensors of the same type.

    Raises:
        CheckpointError: if there is none, or something else among them.
    """
    for key in ('model', 'state_dict', 'blobs'):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {
        name: _tensor(name, value, path)
        for name, value in content.items()
        if not _is_note(name, value)
    }
    if not tensors:
        raise CheckpointError(f'{path}: holds no tensor.')
    return tensors


def _is_note(name: Any, value: Any) -> bool:
    """What detectron2 and Caffe2 put beside arrays: who, how, momenta."""
    if not isinstance(name, str):
        return False
    return (name.endswith('_momentum')
            or name in ('__author__', 'matching_heuristics', 'lr',
                        'weight_order', 'cfg'))


def _tensor(name: Any, value: Any, path: object) -> Tensor:
    if not isinstance(name, str):
        raise CheckpointError(
            f'{path}: {name!r} is no name of a tensor; names are strings.')
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, Tensor) and value.layout is torch.strided:
        return value.detach()
    raise CheckpointError(
        f'{path}: {name!r} is a {type(value).__name__}, not a tensor or an '
        'array.')
