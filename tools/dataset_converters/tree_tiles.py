"""Make the tree-crown tiles that quickstart trains on, in COCO format."""

import argparse
import sys
from pathlib import Path

from mmdet_centernet2.cli.mmdet_tools import errors_as_exit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from quickstart.tree_tiles import prepare_tree_tiles  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = dict(type=Path, default=Path('data/tree_tiles'))
    parser.add_argument('--out', **defaults, help='folder of the data set (default: %(default)s)')
    wheel = 'the deepforest 2.1.0 wheel, where you have it; otherwise pip fetches it once'
    parser.add_argument('--wheel', type=Path, help=wheel)
    args = parser.parse_args()
    summary = prepare_tree_tiles(args.out, wheel_path=args.wheel)
    print(*summary.lines(), f'The data set is in {args.out}', sep='\n')


if __name__ == '__main__':
    with errors_as_exit():
        main()
