"""Released weights by name: ``centernet2://NAME`` wherever a checkpoint goes.

Files of the original's zoo are fetched from where its authors keep them,
converted, and kept in the user's cache.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from filelock import FileLock
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmdet_centernet2.utils.errors import CheckpointError
from mmdet_centernet2.utils.pinned_wheel import downloads_dir

from .convert import check_against, convert_state_dict
from .files import read_checkpoint, save_checkpoint, tensors_of
from .mobilenet_v2 import prepare_mobilenet_v2
from .zoo import Model, detector_checkpoint, model_state, shipped_models

SCHEME = 'centernet2://'
#: A folder that holds the original's files, instead of the network.
FOLDER_VARIABLE = 'CENTERNET2_WEIGHTS'


def released_checkpoint(name: str) -> Path:
    """Path of released weights in the cache; fetched and converted at the first call.

    Args:
        name: Of a model in the original's zoo (``'CenterNet2_R50_1x'``) or of its
            config here, or ``'mobilenet_v2'`` (torchvision's ImageNet weights).
            ``centernet2://`` may stand before it.

    Raises:
        CheckpointError: If there is no such model, no released file, no
            network, or the file does not fit the model.
    """
    name = name.removeprefix(SCHEME)
    if name == 'mobilenet_v2':
        return prepare_mobilenet_v2()
    model = find_model(name)
    folder = downloads_dir()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f'{model.original}_mmdet.pth'
    with FileLock(f'{target}.lock'):  # the other processes of a run wait
        if not target.is_file():
            _convert(_original(model, folder), model, target)
    return target


def find_model(name: str) -> Model:
    """The model of this name, which may be the original's or the config's.

    Raises:
        CheckpointError: If there is none; lists those that have weights.
    """
    models = shipped_models()
    for model in models:
        if name.lower() in (model.original.lower(), model.name.lower()):
            return model
    known = ', '.join(model.original for model in models if model.drive_id)
    raise CheckpointError(f'no model is called {name!r}. Weights are released for: {known}.')


def find_config(name: str, checkpoint: str | None = None) -> tuple[str, str]:
    """Config and checkpoint, two paths or addresses.

    Args:
        name: A config file, or a name that :func:`find_model` knows.
        checkpoint: Instead of the released weights.

    Raises:
        CheckpointError: If there is no such model, or a config file comes
            without a checkpoint.
    """
    if name.endswith('.py'):
        if checkpoint is None:
            raise CheckpointError(f'{name} is a config: give a checkpoint, too.')
        return name, checkpoint
    model = find_model(name.removeprefix(SCHEME))
    return str(model.config), checkpoint or f'{SCHEME}{model.original}'


def _original(model: Model, folder: Path) -> Path:
    """The original's file: from the user's folder, or downloaded."""
    own = os.environ.get(FOLDER_VARIABLE)
    if own:
        path = Path(own).expanduser() / f'{model.original}.pth'
        if not path.is_file():
            raise CheckpointError(f'{path}: no such file; {FOLDER_VARIABLE} names its folder.')
        return path
    if model.drive_id is None:
        raise CheckpointError(f'the authors have released no weights of {model.original}.')
    import gdown  # here: it is slow to import

    path = folder / f'{model.original}.pth'
    print(f'Fetching the weights of {model.original}, once; they are kept in {folder}', flush=True)
    try:
        gdown.download(id=model.drive_id, output=str(path), resume=True)
    except Exception as error:  # gdown's, requests' and the system's
        raise CheckpointError(
            f'the weights of {model.original} could not be fetched '
            f'({" ".join(str(error).split()) or type(error).__name__}). Get '
            f'https://drive.google.com/file/d/{model.drive_id} in a browser, save it as '
            f'{path.name} and name its folder: {FOLDER_VARIABLE}=FOLDER'
        ) from error
    return path


def _convert(source: Path, model: Model, target: Path) -> None:
    """Convert one of the original's files, strictly; a download is removed then."""
    fetched = source.parent == target.parent
    try:
        conversion = convert_state_dict(tensors_of(read_checkpoint(source), source))
        cfg = Config.fromfile(str(model.config))
        fit = check_against(model_state(cfg.model, model.config), conversion.state_dict)
        wrong = [*conversion.unplaced, *fit.unexpected, *fit.left_out]
        if wrong:
            raise CheckpointError(
                f'{source}: does not hold {model.original}; {len(wrong)} tensors do not fit, '
                f'such as {wrong[0]!r}.'
            )
    except CheckpointError:
        if fetched:  # a page instead of the file, or a damaged one
            source.unlink(missing_ok=True)
        raise
    save_checkpoint(detector_checkpoint(conversion, cfg, source), target)
    if fetched:
        source.unlink()


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def load_from_centernet2(filename: str, map_location: str | torch.device | None = None) -> dict:
    """What mmengine calls for ``centernet2://NAME``."""
    return torch.load(released_checkpoint(filename), map_location=map_location, weights_only=True)
