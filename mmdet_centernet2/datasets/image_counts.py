"""In how many images each category is found."""

from pathlib import Path

import numpy as np

from .annotation_file import read_table


def count_images(ann_file: str | Path) -> list[dict]:
    """Count the images of each category of an annotation file.

    Args:
        ann_file: COCO- or LVIS-format annotations.

    Returns:
        ``id``, ``name`` and ``image_count`` of each category, sorted by
        ``id``.

    Raises:
        AnnotationError: If the file is at fault.
        FileNotFoundError: If there is no such file.
    """
    table = read_table(ann_file, evaluation=True)
    pairs = np.unique(np.stack([table.category_rows, table.image_rows]), axis=1)
    counts = np.bincount(pairs[0], minlength=len(table.categories)).tolist()
    entries = [
        dict(id=category['id'], name=category['name'], image_count=count)
        for category, count in zip(table.categories, counts)
    ]
    return sorted(entries, key=lambda entry: entry['id'])
