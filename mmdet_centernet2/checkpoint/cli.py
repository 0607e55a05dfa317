"""The command ``tools/model_converters/detectron2_to_mmdet.py``."""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from torch import Tensor

from .backbones import convert_backbone
from .convert import (EXTRAS, KEYS, Conversion, Fit, Reversion, StateDict,
                      check_against, convert_state_dict, not_finite,
                      revert_state_dict)
from .errors import CheckpointError
from .files import check_target, save_checkpoint
from .key_maps import key_map
from .models import (class_advice, dataset_meta, imagenet_backbone,
                     imagenet_state, load_config, model_state)
from .safe_pickle import read_checkpoint, tensors_of
from .variants import detect_ours, num_classes
from .zoo import entries_of, network_of, shipped_config

_EPILOG = """
Nothing in SRC is executed, whatever it holds. DST is written only when every
tensor of SRC has its place in the model and every tensor of the model is
there, in the same shape; otherwise all that is wrong is listed and the exit
status is 1.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog='detectron2_to_mmdet.py',
        description='Convert a checkpoint of the original CenterNet2 '
        '(detectron2) to one that mmdet loads, or back.',
        epilog=_EPILOG)
    parser.add_argument('src', metavar='SRC',
                        help='checkpoint to read: .pth, .pkl or .safetensors')
    parser.add_argument('dst', metavar='DST', help='checkpoint to write')
    parser.add_argument(
        '--config', metavar='CFG',
        help='config that the checkpoint must fit exactly (default: the '
        'config of the same network, if this package has one)')
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        '--reverse', action='store_true',
        help="turn a checkpoint of this package into the original's format")
    way.add_argument(
        '--backbone-only', action='store_true',
        help='SRC holds ImageNet weights of a ResNet, ResNeXt, Res2Net or DLA '
        '(see docs/pretrained.md); DST can be used in '
        "init_cfg=dict(type='Pretrained', checkpoint=DST)")
    parser.add_argument('--overwrite', action='store_true',
                        help='replace DST if it exists')
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command.

    Args:
        argv (Sequence[str], optional): Its arguments; those of the process
            by default.

    Returns:
        int: Exit status: 0 when DST was written, 1 when not.
    """
    args = build_parser().parse_args(argv)
    try:
        check_target(args.dst, args.src, args.overwrite)
        if args.reverse:
            reverse_file(args.src, args.dst, args.config)
        else:
            convert_file(args.src, args.dst, args.config, args.backbone_only)
    except CheckpointError as error:
        print(f'error: {error}\n{args.dst} was not written.',
              file=sys.stderr)
        return 1
    return 0


def convert_file(src: str, dst: str, config: Optional[str] = None,
                 backbone_only: bool = False) -> None:
    """Convert a checkpoint of the original into one of mmdet's.

    Args:
        src (str): File to read.
        dst (str): File to write: ``state_dict`` with our names and ``meta``
            with what the way back needs.
        config (str, optional): Config that it must fit. Required where the
            network is none that this package has a config for.
        backbone_only (bool): Whether it is a backbone's ImageNet weights.

    Raises:
        CheckpointError: if anything is missing, unexpected or of the wrong
            shape; nothing is written then.
    """
    official = _tensors(read_checkpoint(src), src)
    if backbone_only:
        conversion = convert_backbone(official)
        new, meta = _fit_backbone(conversion, config), {}
    else:
        conversion = convert_state_dict(official)
        new, meta = [], _fit_detector(conversion, config)
    _describe(conversion)
    _describe_new(new)
    meta.update(conversion.meta(), source=Path(src).name)
    _write(dict(state_dict=conversion.state_dict, meta=meta), dst)


def _fit_detector(conversion: Conversion,
                  config: Optional[str]) -> Dict[str, Any]:
    """Refuse a misfit; else meta that the config has for the checkpoint."""
    cfg = load_config(config or _own_config(conversion))
    print(f'Checking it against {cfg.filename}')
    fit = check_against(model_state(cfg, False), conversion.state_dict)
    classes = num_classes(conversion.state_dict, conversion.variant)
    refuse_misfit(conversion, fit, class_advice(cfg, classes))
    names = dataset_meta(cfg, classes)
    return {} if names is None else dict(dataset_meta=names)


def _fit_backbone(conversion: Conversion,
                  config: Optional[str]) -> List[str]:
    """Refuse a misfit of a backbone's weights; tensors that start new."""
    if config is None:
        where = str(imagenet_backbone(conversion.state_dict))
        model = imagenet_state(conversion.state_dict)
    else:
        where = f'the backbone of {config}'
        model = model_state(load_config(config), backbone_only=True)
    print(f'Checking it against {where}')
    fit = check_against(model, conversion.state_dict)
    # Deformable convolutions learn their offsets after ImageNet.
    new = [name for name in fit.missing if '.conv_offset.' in name]
    fit.missing = [name for name in fit.missing if name not in new]
    refuse_misfit(conversion, fit)
    return new


def _describe_new(names: Sequence[str]) -> None:
    """Say what starts untrained, block numbers left out."""
    kinds = Counter(re.sub(r'\.\d+(?=\.)', '.*', name) for name in names)
    for kind, count in kinds.items():
        print(f'  left new: {kind} ({count} tensors), zero before training')


def reverse_file(src: str, dst: str, config: Optional[str] = None) -> None:
    """Turn a checkpoint of this package into the original's format.

    Args:
        src (str): File to read.
        dst (str): File to write: the tensors under ``model``, as
            detectron2 has it.
        config (str, optional): Config that the checkpoint must fit.

    Raises:
        CheckpointError: if a tensor has no place in the original; nothing
            is written then.
    """
    content = read_checkpoint(src)
    state = _tensors(content, src)
    if config is not None:
        _refuse_other_model(state, config)
    reversion = revert_state_dict(state, _meta_of(content, src))
    if reversion.unplaced:
        raise CheckpointError(
            _listed('no place in the original for', reversion.unplaced))
    _describe_reversion(reversion)
    _write(
        dict(model=reversion.state_dict, __author__='mmdet_centernet2'), dst)


def _tensors(content: Mapping[str, Any], src: str) -> StateDict:
    """Tensors of a file, with a word about it and its values."""
    tensors = tensors_of(content, src)
    count = sum(value.numel() for value in tensors.values())
    print(f'Read {len(tensors)} tensors with {count:,} values from {src}')
    broken = not_finite(tensors)
    if broken:
        print(_listed('WARNING: NaN or infinite values in', broken),
              file=sys.stderr)
    return tensors


def _own_config(conversion: Conversion) -> Path:
    """The shipped config of the network that a checkpoint is for."""
    network = network_of(conversion.state_dict, conversion.variant)
    for entry in entries_of(network):
        path = shipped_config(entry.config)
        if path is not None:
            print(f'Found the network of {entry.name}')
            return path
    raise CheckpointError(
        f'found: {conversion.variant}; {network or "no single classifier"}. '
        'No config of this package is for this network, so give one with '
        '--config.' + _unplaced_too(conversion))


def _unplaced_too(conversion: Conversion) -> str:
    if not conversion.unplaced:
        return ''
    return '\n' + _listed('no place for', conversion.unplaced)


def refuse_misfit(conversion: Conversion, fit: Fit,
                  advice: Optional[str] = None) -> None:
    """Say everything that is wrong, at once.

    Args:
        conversion (Conversion): The converted state dict.
        fit (Fit): How it fits the model.
        advice (str, optional): What to do about it.

    Raises:
        CheckpointError: if anything is wrong.
    """

    def official(name: str) -> str:
        source = conversion.sources.get(name)
        return f'{name} (from {source})' if source else name

    def wanted(name: str) -> str:
        source = _original_of(name, conversion)
        return f'{name} (original name: {source})' if source else name

    problems = []
    if conversion.unplaced:
        problems.append(_listed('no place for', conversion.unplaced))
    if fit.unexpected:
        problems.append(
            _listed('not in the model', map(official, fit.unexpected)))
    if fit.missing:
        problems.append(
            _listed('missing in the checkpoint', map(wanted, fit.missing)))
    if fit.mismatched:
        problems.append(
            _listed('wrong shape', (
                f'{official(item.name)}: {item.found}, the model has '
                f'{item.expected}' for item in fit.mismatched)))
    if problems:
        problems += [advice] if advice else []
        raise CheckpointError(
            'the checkpoint does not fit the model.\n' + '\n'.join(problems))


def _original_of(name: str, conversion: Conversion) -> Optional[str]:
    """The original's name of a tensor of ours that it does not hold."""
    if conversion.variant is None:
        return None
    place = key_map(conversion.variant).to_official(name,
                                                    conversion.state_dict)
    return place.name if place else None


def _refuse_other_model(state: StateDict, config: str) -> None:
    cfg = load_config(config)
    fit = check_against(model_state(cfg, False), state)
    same = Conversion(state_dict=state, variant=detect_ours(state))
    classes = num_classes(state, same.variant)
    refuse_misfit(same, fit, class_advice(cfg, classes))


def _meta_of(content: Mapping[str, Any], src: str) -> Dict[str, Any]:
    """What a conversion kept for the way back, checked."""
    meta = content.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    extras, keys = meta.get(EXTRAS, {}), meta.get(KEYS, [])
    tensors = isinstance(extras, Mapping) and all(
        isinstance(value, Tensor) for value in extras.values())
    strings = isinstance(keys, list) and all(
        isinstance(key, str) for key in keys)
    if not tensors or not strings:
        raise CheckpointError(
            f'{src}: meta[{EXTRAS!r}] or meta[{KEYS!r}] is damaged.')
    return {EXTRAS: extras, KEYS: keys}


def _listed(title: str, names) -> str:
    names = list(names)
    lines = [f'{title} ({len(names)}):']
    return '\n'.join(lines + [f'    {name}' for name in names])


def _describe(conversion: Conversion) -> None:
    """Say what became of the tensors."""
    if conversion.variant is not None:
        print(f'Network: {conversion.variant}')
    width = max(map(len, conversion.parts), default=0)
    for part, count in conversion.parts.items():
        print(f'  {part:<{width}}  {count:>5} tensors')
    added = {name: text for name, text in conversion.filled.items()
             if name not in conversion.idle}
    if added:
        print(f'  {"added":<{width}}  {len(added):>5} tensors that the '
              f'original does not have: {_kinds(added)}')
    if conversion.idle:
        print(f'  {"unused":<{width}}  {len(conversion.idle):>5} tensors that '
              'no output depends on, not in the file either; each is '
              f'{conversion.filled[conversion.idle[0]]}: '
              + ', '.join(conversion.idle))
    if conversion.extras:
        reason = ('that no backbone has' if conversion.variant is None else
                  'without a place in the model, for the way back')
        print(f'  {"kept aside":<{width}}  {len(conversion.extras):>5} '
              f'tensors {reason}: ' + ', '.join(conversion.extras))


def _kinds(added: Mapping[str, str]) -> str:
    kinds: List[str] = []
    for name, text in added.items():
        kind = f'{name.rpartition(".")[2]} = {text}'
        if kind not in kinds:
            kinds.append(kind)
    return ', '.join(kinds)


def _describe_reversion(reversion: Reversion) -> None:
    print(f'Network: {reversion.variant}')
    print(f'  {len(reversion.state_dict)} tensors with original names')
    if reversion.left_out:
        print(f'  {len(reversion.left_out)} tensors left out that the '
              'original does not have')


def _write(content: Dict[str, Any], dst: str) -> None:
    save_checkpoint(content, dst)
    size = Path(dst).stat().st_size / 2**20
    print(f'Wrote {dst} ({size:.1f} MiB)')
