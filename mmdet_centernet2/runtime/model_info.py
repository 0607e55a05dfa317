"""What an exported file says about itself: the one schema of its metadata.

The file's metadata hold one entry, :data:`KEY`, a JSON object.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from PIL import Image

from .errors import ModelFileError

#: Name of the metadata's entry.
KEY = 'mmdet_centernet2'
#: The newest layout of the entry that this code reads.
SCHEMA = 1

#: Ways to resize, by library and name in mmcv.
INTERPOLATIONS: dict[str, dict[str, int]] = dict(
    # cv2.INTER_NEAREST to cv2.INTER_LANCZOS4
    cv2=dict(nearest=0, bilinear=1, bicubic=2, area=3, lanczos=4),
    pillow={method.name.lower(): method for method in Image.Resampling},
)

Check = Callable[[Any], bool]


# Each makes a check: whether a value from JSON can be used.
def _is(kind: type) -> Check:
    return lambda v: isinstance(v, kind)


def _number(low: float, high: float, kinds: Any = (int, float)) -> Check:
    return lambda v: isinstance(v, kinds) and not isinstance(v, bool) and low <= v <= high


def _list(check: Check, length: int | None = None) -> Check:
    return lambda v: (
        isinstance(v, list) and len(v) > 0 and length in (None, len(v)) and all(map(check, v))
    )


def _entry(check: Check, wanted: str, default: Any = MISSING) -> Any:
    """A field with the check of a value unlike the default, and what that must be."""
    return field(default=default, metadata=dict(check=check, wanted=wanted))


_FLAG = (_is(bool), 'true or false')
_SHARE = (_number(0, 1), 'a number from 0 to 1')
_SIDES = (_list(_number(0, 2**15, int), 2), 'two whole numbers of pixels, up to 32768')
_COLOURS = (_list(_list(_number(0, 255, int), 3)), 'a list of RGB colours from 0 to 255')
_MEAN = (_list(_number(-1e6, 1e6), 3), 'three numbers')
_STD = (_list(_number(1e-6, 1e6), 3), 'three positive numbers')
_LIBRARY = (tuple(INTERPOLATIONS).__contains__, 'cv2 or pillow')
_VERSION = f'a whole number up to {SCHEMA}; a newer one needs a newer mmdet_centernet2'


@dataclass(frozen=True)
class ResizeInfo:
    """How images are resized.

    Attributes:
        scale: With ``short_side``: length of the short edge, and what the
            long one may be at most (0: anything), in pixels, as in mmdet's
            ``ResizeShortestEdge``. Without: ``scale`` of mmdet's ``Resize``,
            (width, height) in pixels.
        keep_ratio: As in mmdet's ``Resize``; ``short_side`` always does.
        round_down: With ``keep_ratio``, not ``short_side``: sides are cut to
            whole pixels instead of rounded.
        backend: ``cv2`` or ``pillow``; they interpolate differently.
    """

    scale: list[int] = _entry(*_SIDES)
    keep_ratio: bool = _entry(*_FLAG, True)
    short_side: bool = _entry(*_FLAG, False)
    round_down: bool = _entry(*_FLAG, False)
    backend: str = _entry(*_LIBRARY, 'cv2')
    interpolation: str = _entry(_is(str), 'the name of one', 'bilinear')


@dataclass(frozen=True)
class ModelInfo:
    """What a file says about itself.

    Attributes:
        classes: Names, by label.
        palette: RGB colours from 0 to 255, by label.
        mean: Of each channel, subtracted; None: not normalised.
        std: Of each channel, divided by after that.
        bgr_to_rgb: Whether the channels are swapped before.
        pad_divisor: Height and width are padded to a multiple of it, at the
            bottom and on the right.
        pad_value: Of normalised pixels.
        image_size_input: Whether the graph has the input ``image_sizes``:
            height and width of each image without the padding.
        decoder: What decodes image files.
        score_thr: The model gives no detection with a lower score.
        mask_thr: Pixels of a mask are those of at least this probability.
        package: Version of the package that exported the file.
    """

    schema: int = _entry(_number(1, SCHEMA, int), _VERSION)
    classes: list[str] = _entry(_list(_is(str)), 'a list of names')
    resize: ResizeInfo = _entry(_is(dict), 'an object')
    palette: list[list[int]] | None = _entry(*_COLOURS, None)
    mean: list[float] | None = _entry(*_MEAN, None)
    std: list[float] | None = _entry(*_STD, None)
    bgr_to_rgb: bool = _entry(*_FLAG, False)
    pad_divisor: int = _entry(_number(1, 2**12, int), 'a whole number from 1 to 4096', 1)
    pad_value: float = _entry(_number(-1e6, 1e6), 'a number', 0)
    task: str = _entry(('bbox', 'mask').__contains__, 'bbox or mask', 'bbox')
    image_size_input: bool = _entry(*_FLAG, False)
    decoder: str = _entry(*_LIBRARY, 'cv2')
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
        faults: list[str] = []
        try:
            values = json.loads(metadata[KEY])
            if not isinstance(values, dict):
                raise ValueError('it is no JSON object')
            info = _checked(cls, values, faults)
            faults.extend(() if faults else _conflicts(info))
        except (ValueError, RecursionError) as error:
            faults.append(str(error))
        if faults:
            raise ModelFileError(
                f'the metadata {KEY!r} of {path} cannot be used ({"; ".join(faults)}). '
                'Export the model again with tools/deploy.py.'
            )
        return info


def _checked(cls: type, values: dict, faults: list[str], where: str = '') -> Any:
    """The dataclass of such values, if there are no ``faults``; they are added there."""
    good = {key.name: values[key.name] for key in fields(cls) if key.name in values}
    for key in fields(cls):
        name, value = f'{where}{key.name}', good.get(key.name, key.default)
        if value is MISSING:
            faults.append(f'{name!r} is missing')
        elif not (value is key.default or key.metadata['check'](value)):
            faults.append(f'{name!r} is {reprlib.repr(value)}, not {key.metadata["wanted"]}')
        elif key.name == 'resize':
            good[key.name] = _checked(ResizeInfo, value, faults, 'resize.')
    return None if faults else cls(**good)


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
