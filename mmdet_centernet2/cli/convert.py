"""The command ``tools/model_converters/detectron2_to_mmdet.py``."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmdet_centernet2.checkpoint import (
    CheckpointError,
    Conversion,
    check_against,
    convert_backbone,
    convert_state_dict,
    read_checkpoint,
    revert_state_dict,
    tensors_of,
)
from mmdet_centernet2.checkpoint.convert import StateDict, listed
from mmdet_centernet2.checkpoint.files import check_target, save_checkpoint
from mmdet_centernet2.checkpoint.imagenet import imagenet_backbone
from mmdet_centernet2.checkpoint.key_maps import find_network
from mmdet_centernet2.checkpoint.match import model_state, num_classes, num_classes_of, require_fit
from mmdet_centernet2.checkpoint.zoo import detector_checkpoint, shipped_models
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
    """Run the command: 0 when DST was written, 2 when not."""
    args = build_parser().parse_args(argv)
    try:
        check_target(args.dst, args.src, args.overwrite)
        content = read_checkpoint(args.src)
        tensors = tensors_of(content, args.src)
        count = sum(value.numel() for value in tensors.values())
        print(f'Read {len(tensors)} tensors with {count:,} values from {args.src}')
        # aminmax passes NaN on, and is several times as fast as isfinite
        ends = {name: value.aminmax() for name, value in tensors.items() if value.numel()}
        broken = [name for name, end in ends.items() if not torch.stack(end).isfinite().all()]
        if broken:
            print(listed('WARNING: NaN or infinite values in', broken), file=sys.stderr)
        if args.reverse:
            result = _reverse(tensors, content.get('meta'), args.config)
        elif args.backbone_only:
            result = _convert_backbone(tensors, args.src, args.config)
        else:
            result = _convert_detector(tensors, args.src, args.config)
        save_checkpoint(result, args.dst)
    except UserError as error:
        print(f'error: {error}\n{args.dst} was not written.', file=sys.stderr)
        return 2
    size = Path(args.dst).stat().st_size / 2**20
    print(f'Wrote {args.dst} ({size:.1f} MiB)')
    return 0


def _convert_detector(tensors: StateDict, src: str, path: str | None) -> dict[str, Any]:
    """The converted checkpoint of a detector."""
    conversion = convert_state_dict(tensors)
    cfg = load_config(path) if path else find_config(conversion)
    print(f'Checking it against {cfg.filename}')
    require_fit(conversion, model_state(cfg.model, cfg.filename), cfg)
    print(f'Network: {conversion.network}')
    parts = Counter(name.partition('.')[0] for name in conversion.sources)
    _describe(conversion, parts)
    return detector_checkpoint(conversion, cfg, src)


def _convert_backbone(tensors: StateDict, src: str, path: str | None) -> dict[str, Any]:
    """The converted checkpoint of ImageNet weights."""
    conversion = convert_backbone(tensors)
    state = conversion.state_dict
    part = load_config(path).model.get('backbone') if path else imagenet_backbone(state)
    name = f'the backbone of {path}' if path else str(part)
    print(f'Checking it against {name}')
    wanted = model_state(part, name)
    # Deformable convolutions learn their offsets after ImageNet.
    new = [name for name in wanted if '.conv_offset.' in name and name not in state]
    require_fit(conversion, {name: wanted[name] for name in wanted if name not in new})
    _describe(conversion, {'backbone': len(conversion.sources)})
    kinds = Counter(re.sub(r'\.\d+(?=\.)', '.*', name) for name in new)
    for kind, count in kinds.items():
        print(f'  left new: {kind} ({count} tensors), zero before training')
    return dict(state_dict=state, meta=dict(conversion.meta(), source=Path(src).name))


def _reverse(state: StateDict, meta: Any, path: str | None) -> dict[str, Any]:
    """The checkpoint with the original's names, as detectron2 has it."""
    network = find_network(state, ours=True)
    if path is not None:
        cfg = load_config(path)
        require_fit(Conversion(network, [], state), model_state(cfg.model, path), cfg)
    official = revert_state_dict(state, meta)
    print(f'Network: {network}')
    print(f'  {len(official)} tensors with original names, from {len(state)}')
    return dict(model=official, __author__='mmdet_centernet2')


def find_config(conversion: Conversion) -> Config:
    """The config of this package that a checkpoint fits, or nearly fits."""
    state, network = conversion.state_dict, conversion.network
    classes = num_classes(state)
    found: list[tuple[int, str, Config]] = []
    for model in shipped_models():
        cfg = load_config(model.config)
        # Building a model takes a second: look at the config first.
        kind = cfg.model.backbone.type.lower().replace('resnext', 'resnet')
        counts = {count for _, count in num_classes_of(cfg.model)}
        if kind.endswith(network.backbone) and classes & counts:
            wanted = model_state(cfg.model, cfg.filename)
            if find_network(wanted, ours=True) == network:
                fit = check_against(wanted, state)
                found.append((len(fit.left_out + fit.unexpected), model.original, cfg))
                if fit:
                    break
    if found:
        wrong, name, config = min(found, key=lambda each: each[0])
        print(f'{"Nearest is" if wrong else "Found"} the network of {name}')
        return config
    raise CheckpointError(
        f'found: {network}; num_classes={", ".join(map(str, classes))}. No config of this '
        'package is for this network, so give one with --config.'
    )


def load_config(path: str | Path) -> Config:
    """Read a config of a model, and import what it needs."""
    config = checks.load_config(argparse.Namespace(config=str(path)))
    if 'model' not in config:
        raise CheckpointError(f'{path}: describes no model.')
    return config


def _describe(conversion: Conversion, parts: Mapping[str, int]) -> None:
    """Say what became of the tensors."""
    width = max(map(len, parts), default=0)

    def row(what: str, count: int, text: str = '') -> None:
        print(f'  {what:<{width}}  {count:>5} tensors{text}')

    for part, count in parts.items():
        row(part, count)
    for value in dict.fromkeys(conversion.filled.values()):
        names = [name for name, each in conversion.filled.items() if each == value]
        kinds = ', '.join(dict.fromkeys(name.rpartition('.')[2] for name in names))
        row('added', len(names), f' that the original does not have: {kinds} = {value}')
    if extras := conversion.extras:
        row('kept aside', len(extras), f' without a place in the model: {", ".join(extras)}')
