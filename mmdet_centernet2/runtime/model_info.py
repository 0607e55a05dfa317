"""What an exported file says about itself: the one schema of its metadata.

The file's metadata hold one entry, :data:`KEY`, a JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
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

Check = Callable[[Any], bool]


# Each makes a check: whether a value from JSON can be used.
def _number(low: float, high: float, kinds: Any = (int, float)) -> Check:
    return lambda v: isinstance(v, kinds) and not isinstance(v, bool) and low <= v <= high


def _one_of(*choices: str) -> Check:
    return lambda v: isinstance(v, str) and v in choices


def _list(check: Check, length: int | None = None) -> Check:
    return lambda v: (
        isinstance(v, list) and len(v) > 0 and length in (None, len(v)) and all(map(check, v))
    )


def _or_null(check: Check) -> Check:
    return lambda v: v is None or check(v)


def _is(kind: type) -> Check:
    return lambda v: isinstance(v, kind)


def _entry(check: Check, wanted: str, default: Any = MISSING) -> Any:
    """A field with the check of its value, and what the value must be."""
    return field(default=default, metadata=dict(check=check, wanted=wanted))


_FLAG = (_is(bool), 'true or false')
_SHARE = (_number(0, 1), 'a number from 0 to 1')
_SIDES = (_list(_number(0, 2**15, int), 2), 'two whole numbers of pixels, up to 32768')
_COLOURS = (_or_null(_list(_list(_number(0, 255, int), 3))), 'a list of RGB colours from 0 to 255')


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
        round_down: With ``keep_ratio``, not ``short_side``: sides are cut to
            whole pixels instead of rounded.
        backend: ``cv2`` or ``pillow``; they interpolate differently.
        interpolation: Its name in mmcv, such as ``bilinear``.
    """

    scale: tuple[int, int] = _entry(*_SIDES)
    keep_ratio: bool = _entry(*_FLAG, True)
    short_side: bool = _entry(*_FLAG, False)
    round_down: bool = _entry(*_FLAG, False)
    backend: str = _entry(_one_of(*INTERPOLATIONS), 'cv2 or pillow', 'cv2')
    interpolation: str = _entry(_is(str), 'the name of one', 'bilinear')


@dataclass(frozen=True)
class ModelInfo:
    """What a file says about itself.

    Attributes:
        classes: Names, by label.
        resize: How images are resized.
        palette: RGB colours from 0 to 255, by label; None if there are none.
        mean: Of each channel, subtracted; None: not normalised.
        std: Of each channel, divided by after that.
        bgr_to_rgb: Whether the channels are swapped before.
        pad_divisor: Height and width are padded to a multiple of it, at the
            bottom and on the right.
        pad_value: Of normalised pixels.
        task: ``bbox`` or ``mask``.
        image_size_input: Whether the graph has the input ``image_sizes``:
            height and width of each image without the padding.
        decoder: What decodes image files, ``cv2`` or ``pillow``.
        score_thr: The model gives no detection with a lower score.
        mask_thr: Pixels of a mask are those of at least this probability.
        package: Version of the package that exported the file.
    """

    classes: tuple[str, ...] = _entry(_list(_is(str)), 'a list of names')
    resize: ResizeInfo = _entry(_is(dict), 'an object')
    palette: tuple[tuple[int, int, int], ...] | None = _entry(*_COLOURS, None)
    mean: tuple[float, ...] | None = _entry(
        _or_null(_list(_number(-1e6, 1e6), 3)), 'three numbers', None
    )
    std: tuple[float, ...] | None = _entry(
        _or_null(_list(_number(1e-6, 1e6), 3)), 'three positive numbers', None
    )
    bgr_to_rgb: bool = _entry(*_FLAG, False)
    pad_divisor: int = _entry(_number(1, 2**12, int), 'a whole number from 1 to 4096', 1)
    pad_value: float = _entry(_number(-1e6, 1e6), 'a number', 0)
    task: str = _entry(_one_of('bbox', 'mask'), 'bbox or mask', 'bbox')
    image_size_input: bool = _entry(*_FLAG, False)
    decoder: str = _entry(_one_of('cv2', 'pillow'), 'cv2 or pillow', 'cv2')
    score_thr: float = _entry(*_SHARE, 0.0)
    mask_thr: float = _entry(*_SHARE, 0.5)
    package: str = _entry(_is(str), 'a version', '')

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: str) -> ModelInfo:
        """Read and check the entry :data:`KEY` of a file; unknown keys are ignored.

        Raises:
            ModelFileError: If there is no such entry, or it cannot be used;
                the message names every fault.
        """
        if KEY not in metadata:
            raise ModelFileError(
                f'{path} has no metadata {KEY!r}: it does not say which classes it knows and how '
                'its images are prepared. Export it with tools/deploy.py.'
            )
        try:
            values = json.loads(metadata[KEY])
            if not isinstance(values, dict):
                raise ValueError('it is no JSON object')
            schema = values.get('schema')
            if not _number(1, 1e6, int)(schema):
                raise ValueError(f"'schema' is {_short(schema)}, not a whole number")
            if schema <= SCHEMA:
                return _build(values)
        except (ValueError, RecursionError) as error:
            raise ModelFileError(
                f'the metadata {KEY!r} of {path} cannot be used ({error}). '
                'Export the model again with tools/deploy.py.'
            ) from error
        raise ModelFileError(
            f'{path} was written by a newer mmdet_centernet2 ({values.get("package", "?")}, '
            f'metadata schema {schema}; this one reads up to {SCHEMA}). Update the package.'
        )


def _build(values: dict) -> ModelInfo:
    """Check every value, then those that depend on one another."""
    faults: list[str] = []
    known = _checked(ModelInfo, values, faults)
    if 'resize' in known:
        resize = _checked(ResizeInfo, values['resize'], faults, 'resize.')
    if not faults:
        info = ModelInfo(**{**known, 'resize': ResizeInfo(**resize)})
        faults.extend(_conflicts(info))
    if faults:
        raise ValueError('; '.join(faults))
    return info


def _checked(cls: type, values: dict, faults: list[str], where: str = '') -> dict[str, Any]:
    """The good values of a dataclass; the others are added to ``faults``."""
    good = {}
    for entry in fields(cls):
        name, value = f'{where}{entry.name}', values.get(entry.name)
        if entry.name not in values:
            if entry.default is MISSING:
                faults.append(f'{name!r} is missing')
        elif entry.metadata['check'](value):
            good[entry.name] = _as_tuples(value)
        else:
            faults.append(f'{name!r} is {_short(value)}, not {entry.metadata["wanted"]}')
    return good


def _conflicts(info: ModelInfo) -> Iterator[str]:
    """What single values do not show."""
    scale, resize = info.resize.scale, info.resize
    if scale[0] < 1 or scale[1] < 1 and not resize.short_side:
        yield f"'resize.scale' is {list(scale)}: images would have no pixels"
    known = INTERPOLATIONS[resize.backend]
    if resize.interpolation not in known:
        yield f"'resize.interpolation' is {resize.interpolation!r}, not one of {', '.join(known)}"
    if (info.mean is None) != (info.std is None):
        yield "'mean' and 'std' go together"
    if info.palette and len(info.palette) < len(info.classes):
        yield "'palette' has fewer entries than 'classes'"


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f'{text[:57]}...'
