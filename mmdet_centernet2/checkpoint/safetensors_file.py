"""Reading files of the ``safetensors`` format, which timm and others use.

The format holds tensors and nothing that could run. It is read by its own
package, which is no requirement of this one.
"""

from pathlib import Path
from typing import Dict

from torch import Tensor

from .errors import CheckpointError

# The format's own limit for the size of the header, in bytes.
_LONGEST_HEADER = 100_000_000


def is_safetensors(head: bytes) -> bool:
    """Whether a file is of this format, from its first bytes.

    Args:
        head (bytes): At least nine, or all there are: the length of the
            header in eight bytes, then the header, which is JSON.
    """
    return (head[8:9] == b'{'
            and int.from_bytes(head[:8], 'little') <= _LONGEST_HEADER)


def load_safetensors(path: Path) -> Dict[str, Tensor]:
    """Read the tensors of a file.

    Args:
        path (Path): The file.

    Returns:
        dict: Name -> tensor.

    Raises:
        CheckpointError: if the package is not installed, or the file is
            damaged.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            'is a file of the safetensors format, which needs the package '
            'safetensors: install it with `pip install safetensors`, or save '
            'the tensors with torch.save.') from error
    try:
        return load_file(str(path), device='cpu')
    except SafetensorError as error:
        raise CheckpointError(
            f'the file is damaged or cut off ({error}). Fetch it again and '
            'compare its size or checksum.') from error
