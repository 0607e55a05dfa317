"""The command ``tools/model_converters/detectron2_to_mmdet.py``."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import Tensor

from mmdet_centernet2.checkpoint import (
    CheckpointError,
    Conversion,
    Fit,
    check_against,
    convert_backbone,
    convert_state_dict,
    read_checkpoint,
    revert_state_dict,
    tensors_of,
)
from mmdet_centernet2.checkpoint.convert import EXTRAS, KEYS, StateDict, not_finite
from mmdet_centernet2.checkpoint.files import check_target, save_checkpoint
from mmdet_centernet2.checkpoint.imagenet import imagenet_backbone
from mmdet_centernet2.checkpoint.key_maps import key_map, rename, reverse
from mmdet_centernet2.checkpoint.match import class_keys, num_classes_of
from mmdet_centernet2.checkpoint.variants import detect_ours, num_classes
from mmdet_centernet2.checkpoint.zoo import detector_checkpoint, model_state, shipped_models
from mmdet_centernet2.cli import checks
from mmdet_centernet2.utils.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog='detectron2_to_mmdet.py',
        description='Convert a checkpoint of the original CenterNet2 (detectron2) to one that '
        'mmdet loads, or back. Nothing in SRC is executed. DST is only written if all tensors of '
        'SRC and of the model fit; otherwise what is wrong is listed, and the exit status is 1.',
    )
    add = parser.add_argument
    add('src', metavar='SRC', help='checkpoint to read: .pth, .pkl or .safetensors')
    add('dst', metavar='DST', help='checkpoint to write')
    add('--config', metavar='CFG', help='config that it must fit (default: of the same network)')
    way = parser.add_mutually_exclusive_group()
    way.add_argument('--reverse', action='store_true', help="back to the original's format")
    way.add_argument(
        '--backbone-only',
        action='store_true',
        help='SRC holds ImageNet weights of a ResNet, ResNeXt, Res2Net or DLA, DST is for '
        "init_cfg=dict(type='Pretrained', checkpoint=DST); see docs/pretrained.md",
    )
    add('--overwrite', action='store_true', help='replace DST if it exists')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when DST was written, 1 when not."""
    args = build_parser().parse_args(argv)
    try:
        check_target(args.dst, args.src, args.overwrite)
        content = read_checkpoint(args.src)
        tensors = _checked_tensors(content, args.src)
        if args.reverse:
            result = _reverse(content, tensors, args.src, args.config)
        elif args.backbone_only:
            result = _convert_backbone(tensors, args.src, args.config)
        else:
            result = _convert_detector(tensors, args.src, args.config)
        save_checkpoint(result, args.dst)
    except UserError as error:
        print(f'error: {error}\n{args.dst} was not written.', file=sys.stderr)
        return 1
    size = Path(args.dst).stat().st_size / 2**20
    print(f'Wrote {args.dst} ({size:.1f} MiB)')
    return 0


def _checked_tensors(content: Mapping[str, Any], src: str) -> StateDict:
    """Tensors of a file, with a word about it and its values."""
    tensors = tensors_of(content, src)
    count = sum(value.numel() for value in tensors.values())
    print(f'Read {len(tensors)} tensors with {count:,} values from {src}')
    broken = not_finite(tensors)
    if broken:
        print(_listed('WARNING: NaN or infinite values in', broken), file=sys.stderr)
    return tensors


def _convert_detector(tensors: StateDict, src: str, path: str | None) -> dict[str, Any]:
    """The converted checkpoint of a detector."""
    conversion = convert_state_dict(tensors)
    cfg = load_config(path) if path else find_config(conversion)
    print(f'Checking it against {cfg.filename}')
    classes = num_classes(conversion.state_dict)
    fit = check_against(model_state(cfg.model, cfg.filename), conversion.state_dict)
    refuse_misfit(conversion, fit, class_advice(cfg, fit, classes))
    _describe(conversion)
    return detector_checkpoint(conversion, cfg, src)


def _convert_backbone(tensors: StateDict, src: str, path: str | None) -> dict[str, Any]:
    """The converted checkpoint of ImageNet weights."""
    conversion = convert_backbone(tensors)
    part = load_config(path).model.get('backbone') if path else None
    if path and part is None:
        raise CheckpointError(f'{path}: has no model.backbone.')
    part = part or imagenet_backbone(conversion.state_dict)
    print(f'Checking it against {f"the backbone of {path}" if path else part}')
    fit = check_against(model_state(part, path or str(part)), conversion.state_dict)
    # Deformable convolutions learn their offsets after ImageNet.
    new = [name for name in fit.missing if '.conv_offset.' in name]
    fit.missing = [name for name in fit.missing if name not in new]
    refuse_misfit(conversion, fit)
    _describe(conversion)
    kinds = Counter(re.sub(r'\.\d+(?=\.)', '.*', name) for name in new)
    for kind, count in kinds.items():
        print(f'  left new: {kind} ({count} tensors), zero before training')
    meta = dict(conversion.meta(), source=Path(src).name)
    return dict(state_dict=conversion.state_dict, meta=meta)


def _reverse(
    content: Mapping[str, Any], state: StateDict, src: str, path: str | None
) -> dict[str, Any]:
    """The checkpoint with the original's names, as detectron2 has it."""
    if path is not None:
        cfg = load_config(path)
        same = Conversion(state_dict=state, variant=detect_ours(state))
        fit = check_against(model_state(cfg.model, path), state)
        refuse_misfit(same, fit, class_advice(cfg, fit, num_classes(state)))
    reversion = revert_state_dict(state, _meta_of(content, src))
    if reversion.unplaced:
        raise CheckpointError(_listed('no place in the original for', reversion.unplaced))
    print(f'Network: {reversion.variant}')
    print(f'  {len(reversion.state_dict)} tensors with original names')
    if reversion.left_out:
        print(f'  {len(reversion.left_out)} tensors left out that the original does not have')
    return dict(model=reversion.state_dict, __author__='mmdet_centernet2')


def _meta_of(content: Mapping[str, Any], src: str) -> dict[str, Any]:
    """What a conversion kept for the way back, checked."""
    meta = content.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    extras, keys = meta.get(EXTRAS, {}), meta.get(KEYS, [])
    if not (
        isinstance(extras, Mapping)
        and isinstance(keys, list)
        and all(isinstance(value, Tensor) for value in extras.values())
        and all(isinstance(key, str) for key in keys)
    ):
        raise CheckpointError(f'{src}: meta[{EXTRAS!r}] or meta[{KEYS!r}] is damaged.')
    return {EXTRAS: extras, KEYS: keys}


def find_config(conversion: Conversion) -> Config:
    """The config of this package that a checkpoint fits, or nearly fits."""
    state, variant = conversion.state_dict, conversion.variant
    classes = num_classes(state)
    found: list[tuple[int, str, Config]] = []
    for model in shipped_models():
        cfg = load_config(model.config)
        # Building a model takes a second: look at the config first.
        kind = cfg.model.backbone.type.lower().replace('resnext', 'resnet')
        counts = {count for _, count in num_classes_of(cfg.model)}
        if not kind.endswith(variant.backbone) or not classes & counts:
            continue
        wanted = model_state(cfg.model, cfg.filename)
        fit = check_against(wanted, state)
        wrong = len(fit.missing + fit.unexpected) + len(fit.mismatched)
        if detect_ours(wanted) == variant:
            found.append((wrong, model.original, cfg))
        if fit:
            break
    if found:
        wrong, name, config = min(found, key=lambda each: each[0])
        print(f'{"Nearest is" if wrong else "Found"} the network of {name}')
        return config
    unplaced = conversion.unplaced and _listed('\nno place for', conversion.unplaced)
    raise CheckpointError(
        f'found: {variant}; num_classes={", ".join(map(str, classes))}. No config of this '
        f'package is for this network, so give one with --config.{unplaced or ""}'
    )


def load_config(path: str | Path) -> Config:
    """Read a config of a model, and import what it needs."""
    config = checks.load_config(argparse.Namespace(config=str(path)))
    if 'model' not in config:
        raise CheckpointError(f'{path}: describes no model.')
    return config


def class_advice(config: Config, fit: Fit, found: set[int]) -> str | None:
    """What to change when a config has another number of classes.

    ``found`` are the numbers in the checkpoint. None when they agree, or when
    it cannot be told.
    """
    keys = class_keys(config, (item.name for item in fit.mismatched))
    if len(found) != 1 or not keys or set(keys.values()) == found:
        return None
    (number,) = found
    said = '\n'.join(f'    {key} = {value}' for key, value in keys.items())
    return (
        f'The checkpoint is for {number} classes, the config is not:\n{said}\n'
        f'  Set {"it" if len(keys) == 1 else "them"} to {number} to convert. To train on other '
        'classes, convert with the config of the original classes first, then give the result as '
        'load_from: layers of another size start anew.'
    )


def refuse_misfit(conversion: Conversion, fit: Fit, advice: str | None = None) -> None:
    """Say everything that is wrong, at once, and ``advice`` to mend it."""

    def official(name: str) -> str:
        source = conversion.sources.get(name)
        return f'{name} (from {source})' if source else name

    state, variant = conversion.state_dict, conversion.variant
    names = reverse(key_map(variant, state)) if variant else {}

    def wanted(name: str) -> str:
        source = rename(name, names)
        return f'{name} (original name: {source})' if source else name

    problems = {
        'no place for': conversion.unplaced,
        'not in the model': list(map(official, fit.unexpected)),
        'missing in the checkpoint': list(map(wanted, fit.missing)),
        'wrong shape': [
            f'{official(name)}: {found}, the model has {expected}'
            for name, found, expected in fit.mismatched
        ],
    }
    lines = [_listed(title, names) for title, names in problems.items() if names]
    if lines:
        lines += [advice] if advice else []
        raise CheckpointError('the checkpoint does not fit the model.\n' + '\n'.join(lines))


def _listed(title: str, names: Iterable[str]) -> str:
    names = list(names)
    return '\n    '.join([f'{title} ({len(names)}):', *names])


def _describe(conversion: Conversion) -> None:
    """Say what became of the tensors."""
    if conversion.variant is not None:
        print(f'Network: {conversion.variant}')
    width = max(map(len, conversion.parts), default=0)

    def row(what: str, count: int, text: str = '') -> None:
        print(f'  {what:<{width}}  {count:>5} tensors{text}')

    for part, count in conversion.parts.items():
        row(part, count)
    filled, idle, extras = conversion.filled, conversion.idle, conversion.extras
    added = [name for name in filled if name not in idle]
    if added:
        kinds = {f'{name.rpartition(".")[2]} = {filled[name]}': None for name in added}
        row('added', len(added), f' that the original does not have: {", ".join(kinds)}')
    if idle:
        why = f' that no output depends on, not in the file either; each is {filled[idle[0]]}: '
        row('unused', len(idle), why + ', '.join(idle))
    if extras:
        row('kept aside', len(extras), f' without a place in the model: {", ".join(extras)}')
