"""The models of this package, and released weights by name: ``centernet2://NAME``.

Files of the original's zoo are fetched from where its authors keep them,
converted, and kept in the user's cache.
"""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

import mmengine
import torch
from filelock import FileLock
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmdet_centernet2.datasets.palette import distinct_palette
from mmdet_centernet2.utils.errors import CheckpointError
from mmdet_centernet2.utils.pinned_wheel import downloads_dir

from .convert import Conversion, convert_state_dict
from .files import read_checkpoint, save_checkpoint, tensors_of
from .match import model_state, num_classes, require_fit
from .mobilenet_v2 import prepare_mobilenet_v2

SCHEME = 'centernet2://'
#: A folder that holds the original's files, instead of the network.
FOLDER_VARIABLE = 'CENTERNET2_WEIGHTS'


class Model(NamedTuple):
    """A config of this package and the original's model that it is."""

    name: str
    original: str  # name in the original's zoo
    config: Path
    drive_id: str | None  # of the original's weights on Google Drive, if there are any


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


def released_names() -> str:
    """Names, in the original's zoo, of the models whose weights its authors released."""
    return ', '.join(model.original for model in shipped_models() if model.drive_id)


def find_model(name: str) -> Model:
    """The model of this name, which may be the original's or the config's.

    Raises:
        CheckpointError: If there is none; lists those that have weights.
    """
    for model in shipped_models():
        if name.removeprefix(SCHEME).lower() in (model.original.lower(), model.name.lower()):
            return model
    raise CheckpointError(
        f'no model is called {name!r}. Weights are released for: {released_names()}.'
    )


def find_config(name: str, checkpoint: str | None = None) -> tuple[str, str]:
    """Config and checkpoint of a config file, which needs a ``checkpoint``, or of a model's name.

    Raises:
        CheckpointError: If there is no such model, or no checkpoint.
    """
    if not name.endswith('.py'):
        model = find_model(name)
        return str(model.config), checkpoint or f'{SCHEME}{model.original}'
    if checkpoint is None:
        raise CheckpointError(f'{name} is a config: give a checkpoint, too.')
    return name, checkpoint


def released_checkpoint(name: str) -> Path:
    """Path of released weights in the cache; fetched and converted at the first call.

    Args:
        name: One that :func:`find_model` knows, or ``'mobilenet_v2'``
            (torchvision's ImageNet weights). ``centernet2://`` may stand before it.

    Raises:
        CheckpointError: If there is no such model, no released file, no
            network or space, or the file does not fit the model.
    """
    if name.removeprefix(SCHEME) == 'mobilenet_v2':
        return prepare_mobilenet_v2()
    model = find_model(name)
    folder = downloads_dir()
    target = folder / f'{model.original}_mmdet.pth'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{target}.lock'):  # the other processes of a run wait
            if not target.is_file():
                _fetch(model, target)
    except OSError as error:
        raise CheckpointError(
            f'cannot write to {folder}: {error}; choose a folder you can write to with '
            'XDG_CACHE_HOME'
        ) from error
    return target


def _fetch(model: Model, target: Path) -> None:
    """Write the converted weights; a download is removed once it is of no more use."""
    source = _original(model, target.parent)
    downloaded = not os.environ.get(FOLDER_VARIABLE)
    try:
        content = _converted(source, model)
    except CheckpointError:
        if downloaded:  # such as a page instead of the file
            source.unlink(missing_ok=True)
        raise
    save_checkpoint(content, target)  # if the disk is full, the download stays
    if downloaded:
        source.unlink()


def _original(model: Model, folder: Path) -> Path:
    """The original's file: from the user's folder, or downloaded."""
    own = os.environ.get(FOLDER_VARIABLE)
    if own:
        return Path(own).expanduser() / f'{model.original}.pth'
    if model.drive_id is None:
        raise CheckpointError(f'the authors have released no weights of {model.original}.')
    import gdown  # here: it is slow to import

    path = folder / f'{model.original}.pth'
    if path.is_file():  # it could not be saved converted
        return path
    print(f'Fetching the weights of {model.original}, once; they are kept in {folder}', flush=True)
    try:
        gdown.download(id=model.drive_id, output=str(path), resume=True)
    except Exception as error:  # gdown's, requests' and the system's
        raise CheckpointError(
            f'the weights of {model.original} could not be fetched '
            f'({shorten(str(error), 100) or type(error).__name__}). Get '
            f'https://drive.google.com/file/d/{model.drive_id} in a browser, save it as '
            f'{path.name} and name its folder: {FOLDER_VARIABLE}=FOLDER'
        ) from error
    return path


def _converted(source: Path, model: Model) -> dict:
    """One of the original's files, converted strictly."""
    conversion = convert_state_dict(tensors_of(read_checkpoint(source), source))
    cfg = Config.fromfile(str(model.config))
    try:
        require_fit(conversion, model_state(cfg.model, model.config))
    except CheckpointError as error:
        raise CheckpointError(f'{source}: does not hold {model.original}: {error}') from error
    return detector_checkpoint(conversion, cfg, source)


def detector_checkpoint(conversion: Conversion, config: Config, source: str | Path) -> dict:
    """A converted detector, of the original's file ``source``, as mmengine's checkpoint.

    ``meta`` holds what the way back needs and, where the config has the right
    number of them, the names and colours of the classes.
    """
    meta = dict(conversion.meta(), source=Path(source).name)
    dataset = (config.get('test_dataloader') or {}).get('dataset', {})
    kind = DATASETS.get(dataset.type) if 'type' in dataset else None
    info = {**getattr(kind, 'METAINFO', {}), **(dataset.get('metainfo') or {})}
    classes, palette = tuple(info.get('classes') or ()), info.get('palette') or ()
    if {len(classes)} == num_classes(conversion.state_dict):
        if len(palette) < len(classes):
            palette = distinct_palette(len(classes))
        meta['dataset_meta'] = dict(classes=classes, palette=[tuple(rgb) for rgb in palette])
    return dict(state_dict=conversion.state_dict, meta=meta)


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def load_from_centernet2(filename: str, map_location: str | torch.device | None = None) -> dict:
    """What mmengine calls for ``centernet2://NAME``."""
    return torch.load(released_checkpoint(filename), map_location=map_location, weights_only=True)
