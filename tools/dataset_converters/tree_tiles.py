"""Make the tree-crown tiles that quickstart trains on, in COCO format."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from quickstart.tree_tiles import prepare_tree_tiles  # noqa: E402

from mmdet_centernet2.utils.pinned_wheel import PinnedFileError  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('data/tree_tiles'),
        help='folder of the data set (default: %(default)s)')
    parser.add_argument(
        '--wheel',
        type=Path,
        help='the deepforest 2.1.0 wheel, where you already have it; without '
        'this option pip fetches it once')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    try:
        summary = prepare_tree_tiles(args.out, wheel_path=args.wheel)
    except PinnedFileError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print('\n'.join(summary.lines()))
    print(f'The data set is in {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
