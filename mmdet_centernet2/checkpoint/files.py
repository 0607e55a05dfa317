"""Reading checkpoint files safely, and writing them whole or not at all."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from mmdet_centernet2.utils.errors import CheckpointError

from ..utils.files import write_atomically
from .safe_pickle import FETCH_AGAIN, damaged, load_arrays

# First bytes of the pickle that opens a file of torch.save before torch 1.6:
# the number 0x1950a86a20f9469cfc6c.
_TORCH_LEGACY = b'\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
_ZIP = b'PK\x03\x04'
_MAX_SAFETENSORS_HEADER = 100_000_000  # bytes, the format's own limit
# What detectron2 and Caffe2 write beside the tensors.
_NOTES = ('__author__', 'matching_heuristics', 'lr', 'weight_order', 'cfg')
# How a file begins that is mistaken for a checkpoint, in small letters -> what to say.
_MISTAKEN = {
    r'[\xef\xbb\xbf\s]*<(!doctype|html|\?xml|head)': 'is a web page, not a checkpoint: the '
    'download got an error or log-in page. Download the file itself.',
    r'version https://git-lfs': 'is a Git LFS pointer, not the file; run `git lfs pull`.',
    r'(?s).{257}ustar': 'is a tar archive. Unpack it first; a checkpoint in the tar format of '
    'torch before 0.1.10 cannot be read safely.',
    r'[^\x80(}\]c]': f'is neither a file of torch.save nor a pickle. {FETCH_AGAIN}',
}


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint file, whatever its kind, executing nothing.

    Kinds are told by content, not by name: files of ``torch.save``, old and
    new, of ``safetensors``, and pickles of numpy arrays.

    Raises:
        CheckpointError: If it cannot be read, with the path in the message.
    """
    if '://' in str(path):
        raise CheckpointError(f'{path}: is an address. Download the file first.')
    path = Path(path)
    try:
        with path.open('rb') as file:
            content = _read(file, path)
    except FileNotFoundError as error:
        where = path.absolute()
        raise CheckpointError(f'{path}: does not exist (looked for {where}).') from error
    except OSError as error:
        raise CheckpointError(f'{path}: cannot be read: {error.strerror or error}') from error
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error.__cause__
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f'{path}: holds a {type(content).__name__} instead of a dictionary of tensors; '
            'it is no checkpoint.'
        )
    return dict(content)


def _read(file: BinaryIO, path: Path) -> Any:
    head = file.read(512)
    file.seek(0)
    if not head:
        raise CheckpointError(f'the file is empty. {FETCH_AGAIN}')
    if head.startswith(_ZIP):
        _check_archive(file)
    if head.startswith(_ZIP) or _TORCH_LEGACY in head[:32]:
        return load_torch(file)
    if head[8:9] == b'{' and int.from_bytes(head[:8], 'little') <= _MAX_SAFETENSORS_HEADER:
        return _load_safetensors(path)
    for start, what in _MISTAKEN.items():
        if re.match(start, head.decode('latin1').lower()):
            raise CheckpointError(what)
    return load_arrays(file)


def _check_archive(file: BinaryIO) -> None:
    """Compare the checksums in a file of torch.save with its content."""
    try:
        with zipfile.ZipFile(file) as archive:
            wrong = archive.testzip()
    except Exception as error:  # damaged archives fail in many ways
        raise damaged(error) from error
    file.seek(0)
    if wrong is not None:
        raise damaged(f'the checksum of {wrong!r} in it is wrong')


def load_torch(file: BinaryIO) -> Any:
    """``torch.load`` with ``weights_only``, and errors that say what to do.

    Raises:
        CheckpointError: If it is damaged, or holds more than plain values.
    """
    try:
        return torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:  # damaged files fail in any way
        foreign = re.search(r'(?m)nsupported (?:global: )?(.*?)(?: was |\. |$)', str(error))
        if isinstance(error, pickle.UnpicklingError) and foreign:
            raise CheckpointError(
                'holds more than tensors and plain values, and reading that could run code, so it '
                f'was not read ({foreign[1]}). Take the file from its authors, or save its state '
                'dict alone.'
            ) from error
        raise damaged(error) from error


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file with its own package, if that is installed."""
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            'is a file of the safetensors format, which needs a package: pip install safetensors, '
            'or save the tensors with torch.save.'
        ) from error
    try:
        return load_file(str(path), device='cpu')
    except Exception as error:  # damaged files fail in many ways
        raise damaged(error) from error


def tensors_of(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The tensors in a checkpoint's content; arrays become tensors of the same type.

    Args:
        content: A state dict, or one under ``model`` (detectron2),
            ``state_dict`` (mmengine) or ``blobs`` (Caffe2).
        path: Name of the file, for messages.

    Raises:
        CheckpointError: If there is none, or something else among them.
    """
    for key in ('model', 'state_dict', 'blobs'):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {}
    for name, value in content.items():
        if not isinstance(name, str):
            raise CheckpointError(f'{path}: {name!r} is no name of a tensor; names are strings.')
        if name.endswith('_momentum') or name in _NOTES:
            continue
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            raise CheckpointError(
                f'{path}: {name!r} is a {type(value).__name__}, not a tensor or an array.'
            )
        tensors[name] = value.detach()
    if not tensors:
        raise CheckpointError(f'{path}: holds no tensor.')
    return tensors


def check_target(dst: str | Path, src: str | Path, overwrite: bool) -> None:
    """Raise an error if writing would lose something, or cannot succeed."""
    dst, src = Path(dst), Path(src)
    if dst.is_dir():
        raise CheckpointError(f'{dst}: is a folder; give the name of the file to write.')
    if not dst.parent.is_dir():
        raise CheckpointError(f'{dst}: the folder {dst.parent} does not exist; make it first.')
    if dst.exists() and src.exists() and dst.samefile(src):
        raise CheckpointError(f'{dst}: is the file that is read; give another name to write.')
    if dst.exists() and not overwrite:
        raise CheckpointError(f'{dst}: exists already; add --overwrite to replace it.')


def save_checkpoint(content: Any, dst: str | Path) -> None:
    """``torch.save`` in one step: the file is whole, or as it was before.

    Raises:
        CheckpointError: If it cannot be written.
    """
    try:
        with write_atomically(dst) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # the second is torch's of a full disk
        reason = getattr(error, 'strerror', None) or error
        raise CheckpointError(f'{dst}: cannot be written: {reason}') from error
