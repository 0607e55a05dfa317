"""Count the images of each category, for the federated loss.

The result goes into the config: ``loss_cls=dict(type='FederatedLoss',
cat_freq='OUT')``. For LVIS v1 the counts come with the package
(``cat_freq='lvis_v1'``); this is for other data sets.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from mmdet_centernet2.datasets import read_table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('ann_file', type=Path, help='annotations of the training set')
    parser.add_argument('out', type=Path, help='JSON file to write')
    return parser.parse_args()


def count_images(ann_file: Path) -> list[dict]:
    """``id``, ``name`` and ``image_count`` of each category, sorted by ``id``."""
    table = read_table(ann_file, evaluation=True)
    pairs = np.unique(np.stack([table.category_rows, table.image_rows]), axis=1)
    counts = np.bincount(pairs[0], minlength=len(table.categories)).tolist()
    entries = [
        dict(id=category['id'], name=category['name'], image_count=count)
        for category, count in zip(table.categories, counts)
    ]
    return sorted(entries, key=lambda entry: entry['id'])


def main() -> int:
    args = parse_args()
    print(f'reading {args.ann_file}', flush=True)
    try:
        entries = count_images(args.ann_file)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(entries, indent=1) + '\n')
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    counts = [entry['image_count'] for entry in entries]
    print(
        f'{args.out}: {len(counts)} categories, '
        f'{sum(count == 0 for count in counts)} without an image, '
        f'at most {max(counts, default=0)} images for one'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
