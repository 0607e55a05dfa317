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
        FileNotFoundError: If there is no such file.
    """
    if not isinstance(source, (str, Path)):
        return _check_counts(source, 'the list of image counts')
    path = LVIS_V1_COUNTS if source == 'lvis_v1' else Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"no image counts at {path}: give a JSON file, a list of numbers, or 'lvis_v1'"
        )
    return _check_counts(_read_counts(path), str(path))


def _read_counts(path: Path) -> list:
    """The counts of a file, in the order of the category ids."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path} is not a JSON file: {error}') from error
    if not isinstance(content, list):
        raise ValueError(
            f'{path} does not hold a list of image counts; make one with '
            'tools/dataset_converters/lvis_image_counts.py'
        )
    if not any(isinstance(entry, dict) for entry in content):
        return content
    try:
        return [entry['image_count'] for entry in sorted(content, key=lambda entry: entry['id'])]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f'{path}: every entry needs "id" and "image_count": {type(error).__name__}: {error}'
        ) from error


def _check_counts(counts: Sequence[float], where: str) -> list[float]:
    counts = list(counts)
    if not counts:
        raise ValueError(f'{where} is empty')
    for label, count in enumerate(counts):
        number = isinstance(count, (int, float)) and not isinstance(count, bool)
        if not number or not 0 <= count < math.inf:
            raise ValueError(
                f'{where}: the image count of label {label} is '
                f'{count!r}; it must be a number of at least 0'
            )
    return counts
