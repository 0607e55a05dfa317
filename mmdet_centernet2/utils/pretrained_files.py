"""Which files of pretrained weights a model starts from, and how to get them.

mmengine says that a file cannot be found or fetched, and not what to do.
"""
from __future__ import annotations

import os.path as osp
from typing import Iterator, NamedTuple

import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmdet_centernet2.utils.errors import PreflightError

_CONVERTERS = 'tools/model_converters/'
# Type of a backbone -> a file that its weights are converted from.
_SOURCES = {
    'CaffeRes2Net': 'r2_101.pkl',
    'DLA': 'dla34-ba72cf86.pth',
    'Res2Net': 'r2_101.pkl',
    'ResNeXt': 'X-101-32x8d.pkl',
    'ResNet': 'R-50.pkl',
}


class PretrainedFile(NamedTuple):
    """A file that part of a model is initialised from.

    Attributes:
        key (str): Config key of the file.
        path (str): The file.
        module (dict): Config of the part of the model.
    """
    key: str
    path: str
    module: dict

    def command(self) -> str | None:
        """The command that makes the file, None if none does."""
        kind = self.module.get('type')
        if kind == 'MobileNetV2':
            return (f'python {_CONVERTERS}torchvision_mobilenetv2_to_mmdet.py '
                    f'fetch {self.path}')
        source = _SOURCES.get(kind)
        if kind == 'DLA' and self.module.get('depth', 34) != 34:
            source = f'dla{self.module["depth"]}.pth'
        if source is None:
            return None
        folder = osp.dirname(self.path)
        make = '' if not folder or osp.isdir(folder) else (
            f'mkdir -p {folder} && ')
        return (f'{make}python {_CONVERTERS}detectron2_to_mmdet.py {source} '
                f'{self.path} --backbone-only')


def missing_pretrained(cfg: Config) -> list[PretrainedFile]:
    """List the local files of pretrained weights that are not there.

    Args:
        cfg (Config): The whole config.

    Returns:
        list[PretrainedFile]: Without addresses (``open-mmlab://...``): see
        :func:`fetch_pretrained`.
    """
    return [
        file for file in _pretrained_files(cfg.get('model'), 'model')
        if '://' not in file.path and not osp.isfile(file.path)
    ]


def fetch_pretrained(cfg: Config) -> None:
    """Fetch the weights that a config names by address into torch's cache.

    What is there already needs no network.

    Args:
        cfg (Config): The whole config.

    Raises:
        PreflightError: If an address cannot be read.
    """
    for file in _pretrained_files(cfg.get('model'), 'model'):
        if '://' not in file.path:
            continue
        try:
            CheckpointLoader.load_checkpoint(file.path, map_location='cpu')
        except Exception as error:  # of network, disk, unknown names
            part = file.key.partition('.init_cfg')[0]
            reason = f'{type(error).__name__}: {error}'.splitlines()[0]
            raise PreflightError(
                f'{file.key} = {file.path!r} cannot be fetched ({reason}). '
                'What to do: give a file made as docs/pretrained.md says with '
                f'--cfg-options {file.key}=FILE, or copy the one that another machine has '
                f'fetched into {osp.join(torch.hub.get_dir(), "checkpoints")},'
                f' or start without: --cfg-options {part}.init_cfg=None'
            ) from error


def _pretrained_files(node, key: str) -> Iterator[PretrainedFile]:
    if isinstance(node, dict):
        for where, init in _init_cfgs(node.get('init_cfg'), f'{key}.init_cfg'):
            if init.get('type') == 'Pretrained' and init.get('checkpoint'):
                yield PretrainedFile(f'{where}.checkpoint',
                                     init['checkpoint'], node)
        for name, value in node.items():
            if name != 'init_cfg':
                yield from _pretrained_files(value, f'{key}.{name}')
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _pretrained_files(value, f'{key}.{index}')


def _init_cfgs(init, key: str) -> list[tuple[str, dict]]:
    if isinstance(init, (list, tuple)):
        return [(f'{key}.{index}', part) for index, part in enumerate(init)]
    return [] if init is None else [(key, init)]
