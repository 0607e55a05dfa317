"""Which files and folders a config's data sets need, and are they there."""
from __future__ import annotations

import os.path as osp
from typing import Iterator

from mmengine.config import Config


def leaf_datasets(node: dict, key: str) -> Iterator[tuple[str, dict]]:
    """Walk through wrappers to the data sets that read files.

    Args:
        node (dict): The config of a data set or of a wrapper around some
            (``dataset=`` or ``datasets=``).
        key (str): The dotted config key of ``node``.

    Yields:
        tuple[str, dict]: Config key and config of each data set.
    """
    if 'ann_file' in node or 'data_root' in node:
        yield key, node
    if isinstance(node.get('dataset'), dict):
        yield from leaf_datasets(node['dataset'], f'{key}.dataset')
    for index, part in enumerate(node.get('datasets') or ()):
        yield from leaf_datasets(part, f'{key}.datasets.{index}')


def missing_paths(cfg: Config, loaders: list[str],
                  evaluators: list[str]) -> list[tuple[str, str]]:
    """List what the data sets of a run need and do not find.

    Args:
        cfg (Config): The whole config.
        loaders (list[str]): Keys of the data loaders that the run uses, for
            example ``['train_dataloader']``.
        evaluators (list[str]): Keys of the evaluators that the run uses.

    Returns:
        list[tuple[str, str]]: Config key and path of each missing file or
        folder, with the root folder alone where that is missing.
    """
    found = []
    for loader in loaders:
        dataset = (cfg.get(loader) or {}).get('dataset')
        if isinstance(dataset, dict):
            for key, leaf in leaf_datasets(dataset, f'{loader}.dataset'):
                found += _missing_in(leaf, key)
    for name in evaluators:
        found += _missing_of_evaluator(cfg.get(name), name)
    return found


def _missing_in(dataset: dict, key: str) -> list[tuple[str, str]]:
    if dataset.get('backend_args'):  # not on this machine's disk
        return []
    root = dataset.get('data_root') or ''
    if root and _is_missing(root):
        return [(f'{key}.data_root', root)]
    needed = [(f'{key}.ann_file', dataset.get('ann_file'))]
    for name, prefix in (dataset.get('data_prefix') or {}).items():
        needed.append((f'{key}.data_prefix.{name}', prefix))
    # As mmengine's BaseDataset joins them: below the root unless absolute.
    joined = [(name, osp.join(root, path)) for name, path in needed if path]
    return [(name, path) for name, path in joined if _is_missing(path)]


def _missing_of_evaluator(evaluator: dict | list | None,
                          key: str) -> list[tuple[str, str]]:
    if isinstance(evaluator, (list, tuple)):
        parts = [(f'{key}.{i}', part) for i, part in enumerate(evaluator)]
    else:
        parts = [(key, evaluator or {})]
    return [(f'{name}.ann_file', part['ann_file']) for name, part in parts
            if part.get('ann_file') and not part.get('backend_args')
            and _is_missing(part['ann_file'])]


def _is_missing(path: str) -> bool:
    return '://' not in path and not osp.exists(path)
