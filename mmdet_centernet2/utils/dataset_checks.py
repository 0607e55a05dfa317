"""Do classes, heads, data sets and evaluators of a config fit together?"""
from __future__ import annotations

import os.path as osp

from mmdet.registry import DATASETS
from mmengine.config import Config

from mmdet_centernet2.datasets.centernet2_coco import check_class_names
from mmdet_centernet2.utils.dataset_paths import leaf_datasets
from mmdet_centernet2.utils.errors import PreflightError
from mmdet_centernet2.utils.weights_check import num_classes_of


def check_datasets(cfg: Config, loaders: list[str],
                   evaluators: list[str]) -> None:
    """Check that classes, heads and evaluators fit the data sets.

    Args:
        cfg (Config): The whole config.
        loaders (list[str]): Keys of the data loaders that the run uses.
        evaluators (list[str]): Keys of the evaluators that it uses.

    Raises:
        PreflightError: If a head's ``num_classes`` is not the number of
            classes of the data, if data sets of the run have other classes
            or another order of them, or if an evaluator reads another
            annotation file than its loader.
    """
    found = [(key, dataset, classes_of(dataset, key)) for loader in loaders
             for key, dataset in _leaves(cfg, loader)]
    known = [entry for entry in found if entry[2] is not None]
    if known:
        first, _, classes = known[0]
        check_num_classes(cfg, classes, first)
        for key, dataset, others in known[1:]:
            _compare_classes(first, classes, key, others,
                             dataset.get('ann_file'))
    for name in evaluators:
        loader = name.replace('evaluator', 'dataloader')
        _check_ann_files(cfg, name, loader)


def check_num_classes(cfg: Config, classes: tuple, key: str) -> None:
    """Check the heads' number of classes.

    Args:
        cfg (Config): With ``model``.
        classes (tuple[str]): Names of the classes.
        key (str): Config key of the data set that has them.

    Raises:
        PreflightError: With every head that has another number.
    """
    wrong = {
        f'model.{path}.num_classes': count
        for path, count in num_classes_of(cfg.model)
        if count != len(classes) and 'rpn_head' not in path.split('.')
    }
    if wrong:
        listed = ', '.join(f'{k} = {n}' for k, n in wrong.items())
        options = ' '.join(f'{k}={len(classes)}' for k in wrong)
        raise PreflightError(
            f'{key} has {len(classes)} classes {_short(classes)}, but '
            f'{listed}. num_classes must be the number of classes in '
            f'metainfo: set {options}, or mend metainfo=dict(classes=(...))')


def check_checkpoint_classes(cfg: Config, loader: str,
                             trained: tuple | None) -> None:
    """Check that labels mean the same as when a checkpoint was trained.

    Args:
        cfg (Config): The whole config.
        loader (str): Key of the data loader.
        trained (tuple[str], optional): Classes saved in the checkpoint.

    Raises:
        PreflightError: If they are the same in another order.
    """
    for key, dataset in _leaves(cfg, loader):
        classes = classes_of(dataset, key)
        if trained and classes and sorted(trained) == sorted(classes):
            _compare_classes('the checkpoint', tuple(trained), key, classes,
                             dataset.get('ann_file'))


def classes_of(dataset: dict, key: str) -> tuple | None:
    """Classes of a data set's config.

    Args:
        dataset (dict): Config of a data set.
        key (str): Its config key, for messages.

    Returns:
        tuple[str] | None: From its ``metainfo``, else those of its type; None
        if neither says (or they are listed in a file).

    Raises:
        PreflightError: If ``metainfo.classes`` is not a list of names.
    """
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        kind = DATASETS.get(dataset['type'])
        classes = getattr(kind, 'METAINFO', {}).get('classes')
    try:
        check_class_names(classes or ())
    except ValueError as error:
        raise PreflightError(f'{key}.{error}') from error
    return None if isinstance(classes, str) or not classes else tuple(classes)


def _leaves(cfg: Config, loader: str) -> list[tuple[str, dict]]:
    dataset = (cfg.get(loader) or {}).get('dataset')
    if not isinstance(dataset, dict):
        return []
    return [(key, leaf)
            for key, leaf in leaf_datasets(dataset, f'{loader}.dataset')
            if isinstance(leaf.get('type'), str)]


def _compare_classes(key: str, classes: tuple, other_key: str, others: tuple,
                     ann_file: str | None) -> None:
    if classes == others:
        return
    if sorted(classes) == sorted(others):
        what = 'the same classes in another order'
    else:
        what = 'other classes'
    raise PreflightError(
        f'{other_key}.metainfo.classes (ann_file {ann_file}) {_short(others)}'
        f' has {what} than {key} {_short(classes)}. Use training\'s classes '
        'in training\'s order everywhere; labels are mapped by name, whatever '
        'the order in the annotation file')


def _check_ann_files(cfg: Config, name: str, loader: str) -> None:
    read = {
        _path(osp.join(leaf.get('data_root') or '', leaf['ann_file']))
        for _, leaf in _leaves(cfg, loader) if leaf.get('ann_file')
    }
    evaluators = cfg.get(name) or []
    if isinstance(evaluators, dict):
        evaluators = [evaluators]
    for evaluator in evaluators:
        ann_file = evaluator.get('ann_file')
        if ann_file and read and _path(ann_file) not in read:
            raise PreflightError(
                f'{name}.ann_file = {ann_file!r} is not the file that '
                f'{loader} reads, {" or ".join(sorted(read))}: its images and '
                'objects would be compared with those of other ones. Set both '
                'to the same file')


def _path(path: str) -> str:
    return path if '://' in path else osp.realpath(path)


def _short(names: tuple) -> str:
    shown = ', '.join(map(repr, names[:5]))
    return f'({shown}{", ..." if len(names) > 5 else ""})'
