"""In how many images each category is found."""
import json
import math
from collections import Counter
from pathlib import Path
from typing import List, Sequence, Union

from rich.progress import track

from .annotation_file import AnnotationError

SHIPPED_COUNTS = {
    'lvis_v1': Path(__file__).with_name('lvis_v1_image_counts.json')
}
CountSource = Union[str, Path, Sequence[float]]


def load_image_counts(source: CountSource) -> List[float]:
    """Number of images of each category, in the order of the labels.

    Args:
        source (str, Path or Sequence[float]): 'lvis_v1' for the training set
            of LVIS v1 (1,203 categories); a JSON file with a list
            of numbers, or with a list of objects that hold ``id`` and
            ``image_count`` (sorted by ``id``), as :func:`count_images` gives
            and as the original's category files are; or the numbers.

    Returns:
        list[float]: One number for each category.

    Raises:
        ValueError: If the source is none of these.
        FileNotFoundError: If there is no such file.
    """
    if not isinstance(source, (str, Path)):
        return _check_counts(source, 'the list of image counts')
    path = Path(SHIPPED_COUNTS.get(str(source), source))
    if not path.is_file():
        raise FileNotFoundError(
            f'no image counts at {path}: give the path of a JSON file, a '
            f'list of numbers, or one of {sorted(SHIPPED_COUNTS)}')
    return _check_counts(_by_label(_read_json(path), path), str(path))


def count_images(ann_file: Union[str, Path]) -> List[dict]:
    """Count the images of each category of an annotation file.

    Args:
        ann_file (str or Path): COCO- or LVIS-format annotations. A progress
            bar is shown: the training set of LVIS v1 takes half a minute.

    Returns:
        list[dict]: ``id``, ``name`` and ``image_count`` of each category,
        sorted by ``id``.

    Raises:
        AnnotationError: If the file is not an annotation file.
        FileNotFoundError: If there is no such file.
    """
    content = _read_json(Path(ann_file))
    try:
        categories = {c['id']: c['name'] for c in content['categories']}
        pairs = {(ann['category_id'], ann['image_id'])
                 for ann in track(content['annotations'], 'counting')}
    except (KeyError, TypeError) as error:
        raise AnnotationError(
            f'{ann_file} is not a COCO or LVIS annotation file, a JSON object '
            'with "annotations" and "categories": '
            f'{type(error).__name__}: {error}') from error
    counts = Counter(category for category, _ in pairs)
    unknown = sorted(set(counts) - set(categories))
    if unknown:
        raise AnnotationError(
            f'{ann_file}: annotations of the categories {unknown[:10]}, '
            'which the file does not list under "categories"')
    return [
        dict(id=i, name=categories[i], image_count=counts[i])
        for i in sorted(categories)
    ]


def _read_json(path: Path):
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AnnotationError(f'{path} is not a JSON file: {error}') from error


def _by_label(content, path: Path) -> list:
    """The counts of a file, in the order of the category ids."""
    if not isinstance(content, list):
        raise ValueError(
            f'{path} does not hold a list of image counts; make one with '
            'tools/dataset_converters/lvis_image_counts.py')
    if not any(isinstance(entry, dict) for entry in content):
        return content
    try:
        return [
            entry['image_count']
            for entry in sorted(content, key=lambda entry: entry['id'])
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f'{path}: every entry needs "id" and "image_count": '
                         f'{type(error).__name__}: {error}') from error


def _check_counts(counts: Sequence[float], where: str) -> List[float]:
    counts = list(counts)
    if not counts:
        raise ValueError(f'{where} is empty')
    for label, count in enumerate(counts):
        if isinstance(count, bool) or not isinstance(
                count, (int, float)) or not math.isfinite(count) or count < 0:
            raise ValueError(f'{where}: the image count of label {label} is '
                             f'{count!r}; it must be a number of at least 0')
    return counts
