"""In how many images each category is found."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

LVIS_V1_COUNTS = Path(__file__).with_name('lvis_v1_image_counts.json')
CountSource = str | Path | Sequence[float]


def load_image_counts(source: CountSource) -> list[float]:
    """Number of images of each category, in the order of the labels.

    Args:
        source: 'lvis_v1' for the training set of LVIS v1; the numbers; or a
            JSON file of numbers or of objects with ``id`` and ``image_count``,
            as the original's category files.

    Raises:
        ValueError: If the source is none of these.
    """
    if not isinstance(source, (str, Path)):
        where, counts = 'the list of image counts', source
    else:
        path = LVIS_V1_COUNTS if source == 'lvis_v1' else Path(source)
        where = str(path)
        try:
            counts = json.loads(path.read_text(encoding='utf-8'))
            if isinstance(counts[0], dict):
                entries = sorted(counts, key=lambda entry: entry['id'])
                counts = [entry['image_count'] for entry in entries]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f'{path} holds no image counts ({type(error).__name__}: {error}); make it with '
                "tools/dataset_converters/lvis_image_counts.py, or give a list or 'lvis_v1'"
            ) from error
    for label, count in enumerate(counts):
        if not isinstance(count, (int, float)) or not 0 <= count < math.inf:
            raise ValueError(
                f'{where}: the image count of label {label} is {count!r}; it must be a number '
                'of at least 0'
            )
    return list(counts)
