"""The models of this package, as its metafiles list them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import mmengine


class Model(NamedTuple):
    """A config of this package and the original's name of its model."""

    original: str
    config: Path


def shipped_models() -> list[Model]:
    """All models of ``configs/*/metafile.yml``, in their order there."""
    package = Path(__file__).resolve().parents[1]
    # A wheel carries the configs inside the package, a checkout beside it.
    root = package / '.mim'
    if not (root / 'configs').is_dir():
        root = package.parent
    return [
        Model(entry['Metadata']['Original Name'], root / entry['Config'])
        for metafile in sorted(root.glob('configs/*/metafile.yml'))
        for entry in mmengine.load(metafile)['Models']
    ]
