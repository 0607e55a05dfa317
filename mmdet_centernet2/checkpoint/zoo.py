"""The models of this package, as its metafiles list them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

import mmengine
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from mmdet_centernet2.datasets.palette import distinct_palette
from mmdet_centernet2.utils.errors import CheckpointError

from .convert import Conversion
from .variants import num_classes


class Model(NamedTuple):
    """A config of this package and the original's model that it is.

    Attributes:
        original: Name in the original's zoo.
        drive_id: Google Drive id of the original's weights, if there are any.
    """

    name: str
    original: str
    config: Path
    drive_id: str | None


def shipped_models() -> list[Model]:
    """All models of ``configs/*/metafile.yml``, in their order there."""
    package = Path(__file__).resolve().parents[1]
    # A wheel carries the configs inside the package, a checkout beside it.
    root = package / '.mim'
    if not (root / 'configs').is_dir():
        root = package.parent
    return [
        Model(
            name=entry['Name'],
            original=entry['Metadata']['Original Name'],
            config=root / entry['Config'],
            drive_id=entry['Metadata'].get('Google Drive ID'),
        )
        for metafile in sorted(root.glob('configs/*/metafile.yml'))
        for entry in mmengine.load(metafile)['Models']
    ]


def model_state(part: dict, where: str | Path) -> dict[str, Tensor]:
    """Names and shapes of the tensors of a detector or backbone, built without memory.

    Args:
        part: Its config.
        where: Where it stands, for messages.

    Raises:
        CheckpointError: If it cannot be built.
    """
    import mmdet.models  # noqa: F401  fills the registry
    from mmdet.registry import MODELS

    try:
        with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
            return MODELS.build(copy.deepcopy(part)).state_dict()
    except Exception as error:  # as many ways as there are modules
        raise CheckpointError(
            f'{where}: its model cannot be built ({type(error).__name__}: {error})'
        ) from error


def dataset_meta(config: Config, classes: set[int]) -> dict | None:
    """``classes`` and ``palette`` of a config's data set, for the tools that draw them.

    None if it has no classes, or another number than ``classes``.
    """
    import mmdet.datasets  # noqa: F401  fills the registry
    from mmdet.registry import DATASETS

    dataset = (config.get('test_dataloader') or {}).get('dataset', {})
    kind = DATASETS.get(dataset.type) if 'type' in dataset else None
    meta = {**getattr(kind, 'METAINFO', {}), **(dataset.get('metainfo') or {})}
    names, palette = tuple(meta.get('classes') or ()), meta.get('palette') or ()
    if {len(names)} != classes:
        return None
    if len(palette) < len(names):
        palette = distinct_palette(len(names))
    return dict(classes=names, palette=[tuple(colour) for colour in palette])


def detector_checkpoint(conversion: Conversion, config: Config, source: str | Path) -> dict:
    """A converted detector, of the original's file ``source``, as mmengine's checkpoint.

    ``meta`` holds what the way back needs and, where the config has the right
    number of them, the names of the classes.
    """
    meta = dict(conversion.meta(), source=Path(source).name)
    names = dataset_meta(config, num_classes(conversion.state_dict))
    if names is not None:
        meta['dataset_meta'] = names
    return dict(state_dict=conversion.state_dict, meta=meta)
