"""What an exported file says about itself.

The file's metadata holds one entry, :data:`KEY`, a JSON object. It says all
that is needed to go from a photograph to named boxes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from math import isfinite
from typing import Any

from .errors import ModelFileError

#: Name of the metadata's entry.
KEY = 'mmdet_centernet2'
#: The newest layout of the entry that this code reads.
SCHEMA = 1

INTERPOLATIONS = dict(
    cv2=('nearest', 'bilinear', 'bicubic', 'area', 'lanczos'),
    pillow=('nearest', 'bilinear', 'bicubic', 'box', 'lanczos', 'hamming'),
)


# Each check takes a value from JSON and says whether it can be used.
def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(low: float, high: float, whole: bool = False) -> Callable[[Any], bool]:
    kinds = int if whole else (int, float)
    return lambda value: (
        isinstance(value, kinds)
        and not _is_flag(value)
        and isfinite(value)
        and low <= value <= high
    )


def _is_one_of(*choices: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in choices


def _is_list(check: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list)
        and len(value) > 0
        and length in (None, len(value))
        and all(map(check, value))
    )


def _or_null(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _entry(check: Callable[[Any], bool], wanted: str, default: Any = MISSING) -> Any:
    """A field with the check of its value, and what the value must be."""
    return field(default=default, metadata=dict(check=check, wanted=wanted))


_FLAG = (_is_flag, 'true or false')
_SHARE = (_is_number(0, 1), 'a number from 0 to 1')


@dataclass(frozen=True)
class ResizeInfo:
    """How images are resized.

    Attributes:
        scale: With ``short_side``: length of the short edge, and what the
            long one may be at most (0: anything), in pixels, as in mmdet's
            ``ResizeShortestEdge``. Without: ``scale`` of mmdet's ``Resize``,
            (width, height) in pixels.
        keep_ratio: As in mmdet's ``Resize``; ``short_side`` always does.
        short_side: See ``scale``.
        round_down: With ``keep_ratio``: sides are cut to whole pixels rather
            than rounded to the nearest. Has no meaning with ``short_side``.
        backend: ``cv2`` or ``pillow``; they interpolate differently.
        interpolation: Its name in mmcv, such as ``bilinear``.
    """

    scale: tuple[int, int] = _entry(
        _is_list(_is_number(0, 2**15, whole=True), 2), 'two whole numbers of pixels'
    )
    keep_ratio: bool = _entry(*_FLAG, True)
    short_side: bool = _entry(*_FLAG, False)
    round_down: bool = _entry(*_FLAG, False)
    backend: str = _entry(_is_one_of(*INTERPOLATIONS), 'cv2 or pillow', 'cv2')
    interpolation: str = _entry(_is_text, 'the name of one', 'bilinear')


@dataclass(frozen=True)
class ModelInfo:
    """What a file says about itself.

    Attributes:
        classes: Names, by label.
        resize: How images are resized.
        palette: RGB colours from 0 to 255, by label; None if there are none.
        mean: Of each channel, subtracted; None: not normalised.
        std: Of each channel, divided by after that.
        bgr_to_rgb: Whether the channels are turned around before.
        pad_divisor: Height and width are padded to a multiple of it, below
            and to the right.
        pad_value: Of normalised pixels.
        task: ``bbox`` or ``mask``.
        image_size_input: Whether the graph wants ``image_sizes``: height and
            width of each image without the padding.
        decoder: What decodes image files, ``cv2`` or ``pillow``.
        score_thr: The model gives no detection with a lower score.
        mask_thr: Pixels of a mask are those of at least this probability.
        package: Version of the package that exported the file.
    """

    classes: tuple[str, ...] = _entry(_is_list(_is_text), 'a list of names')
    resize: ResizeInfo = _entry(lambda value: isinstance(value, dict), 'an object')
    palette: tuple[tuple[int, int, int], ...] | None = _entry(
        _or_null(_is_list(_is_list(_is_number(0, 255, whole=True), 3))),
        'a list of RGB colours from 0 to 255',
        None,
    )
    mean: tuple[float, ...] | None = _entry(
        _or_null(_is_list(_is_number(-1e6, 1e6), 3)), 'three numbers', None
    )
    std: tuple[float, ...] | None = _entry(
        _or_null(_is_list(_is_number(1e-6, 1e6), 3)), 'three positive numbers', None
    )
    bgr_to_rgb: bool = _entry(*_FLAG, False)
    pad_divisor: int = _entry(_is_number(1, 2**12, whole=True), 'a whole number from 1 on', 1)
    pad_value: float = _entry(_is_number(-1e6, 1e6), 'a number', 0)
    task: str = _entry(_is_one_of('bbox', 'mask'), 'bbox or mask', 'bbox')
    image_size_input: bool = _entry(*_FLAG, False)
    decoder: str = _entry(_is_one_of('cv2', 'pillow'), 'cv2 or pillow', 'cv2')
    score_thr: float = _entry(*_SHARE, 0.0)
    mask_thr: float = _entry(*_SHARE, 0.5)
    package: str = _entry(_is_text, 'a version', '')

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: str) -> ModelInfo:
        """Read and check the entry :data:`KEY`; unknown keys are left alone.

        Args:
            metadata: All entries of a file.
            path: The file, for messages.

        Raises:
            ModelFileError: If there is no such entry, or it cannot be used.
        """
        if KEY not in metadata:
            raise ModelFileError(
                f'{path} has no metadata {KEY!r}: it does not say which '
                'classes it knows and how its images are prepared. Export it '
                'with tools/deploy.py.'
            )
        try:
            values = json.loads(metadata[KEY])
            schema = _schema(values)
            if schema <= SCHEMA:
                return _build(cls, values)
        except (ValueError, RecursionError) as error:
            raise ModelFileError(
                f'the metadata {KEY!r} of {path} cannot be used ({error}). '
                'Export the model anew with tools/deploy.py.'
            ) from error
        raise ModelFileError(
            f'{path} was written by a newer mmdet_centernet2 '
            f'({values.get("package", "?")}, metadata schema {schema}; '
            f'this one reads up to {SCHEMA}). Update the package.'
        )


def _schema(values: Any) -> int:
    if not isinstance(values, dict):
        raise ValueError('it is no JSON object')
    schema = values.get('schema')
    if not _is_number(1, 1e6, whole=True)(schema):
        raise ValueError(f"'schema' is {_short(schema)}, not a whole number")
    return schema


def _build(cls: type, values: Mapping[str, Any], where: str = '') -> Any:
    """Make one of the dataclasses, every value checked."""
    known = {}
    for entry in fields(cls):
        name = f'{where}{entry.name}'
        if entry.name not in values:
            if entry.default is MISSING:
                raise ValueError(f'{name!r} is missing')
            continue
        value = values[entry.name]
        if not entry.metadata['check'](value):
            raise ValueError(f'{name!r} is {_short(value)}, not {entry.metadata["wanted"]}')
        known[entry.name] = _as_tuples(value)
    if cls is ModelInfo:
        known['resize'] = _build(ResizeInfo, values['resize'], 'resize.')
    info = cls(**known)
    if cls is ResizeInfo:
        _check_resize(info)
    elif (info.mean is None) != (info.std is None):
        raise ValueError("'mean' and 'std' go together")
    elif info.palette and len(info.palette) < len(info.classes):
        raise ValueError("'palette' has fewer entries than 'classes'")
    return info


def _check_resize(info: ResizeInfo) -> None:
    """What single values do not show."""
    if info.scale[0] < 1 or info.scale[1] < 1 and not info.short_side:
        raise ValueError(f"'resize.scale' is {list(info.scale)}: images would have no pixels")
    known = INTERPOLATIONS[info.backend]
    if info.interpolation not in known:
        raise ValueError(
            f"'resize.interpolation' is {info.interpolation!r}, not one of {', '.join(known)}"
        )


def _as_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_as_tuples(part) for part in value)
    return value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f'{text[:57]}...'
