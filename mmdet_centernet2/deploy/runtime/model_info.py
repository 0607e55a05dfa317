"""What an exported file says about itself.

The file's metadata holds one entry, :data:`KEY`, a JSON object. It says all
that is needed to go from a photograph to named boxes.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, Mapping

from .errors import ModelFileError

#: Name of the metadata's entry.
KEY = 'mmdet_centernet2'
#: The newest layout of the entry that this code reads.
SCHEMA = 1

_CHOICES = dict(decoder=('cv2', 'pillow'), task=('bbox', 'mask'))
_RESIZE_CHOICES = dict(backend=('cv2', 'pillow'))


@dataclass(frozen=True)
class ResizeInfo:
    """How images are resized.

    Attributes:
        scale: With ``short_side``: length of the short edge, and what the
            long one may be at most (0: anything), in pixels, as in mmdet's
            ``ResizeShortestEdge``. Without: ``scale`` of mmdet's ``Resize``,
            (width, height) in pixels.
        keep_ratio: As in mmdet's ``Resize``; has no meaning with
            ``short_side``, which always keeps the ratio.
        short_side: See ``scale``.
        round_down: With ``keep_ratio``: sides are cut to whole pixels rather
            than rounded to the nearest. Has no meaning with ``short_side``.
        backend: ``cv2`` or ``pillow``; they interpolate differently.
        interpolation: Its name in mmcv, such as ``bilinear``.
    """
    scale: tuple[int, int]
    keep_ratio: bool = True
    short_side: bool = False
    round_down: bool = False
    backend: str = 'cv2'
    interpolation: str = 'bilinear'


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
    classes: tuple[str, ...]
    resize: ResizeInfo
    palette: tuple[tuple[int, int, int], ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    bgr_to_rgb: bool = False
    pad_divisor: int = 1
    pad_value: float = 0
    task: str = 'bbox'
    image_size_input: bool = False
    decoder: str = 'cv2'
    score_thr: float = 0.
    mask_thr: float = 0.5
    package: str = ''

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str],
                      path: str) -> ModelInfo:
        """Read the metadata of a file.

        Args:
            metadata (Mapping[str, str]): All entries.
            path (str): The file, for messages.

        Returns:
            ModelInfo: What the entry :data:`KEY` says. Keys of it that are
            not known here are left alone.

        Raises:
            ModelFileError: If there is no such entry, or it cannot be used.
        """
        if KEY not in metadata:
            raise ModelFileError(
                f'{path} has no metadata {KEY!r}: it does not say which '
                'classes it knows and how its images are prepared. Export it '
                'with tools/deploy.py.')
        try:
            values = json.loads(metadata[KEY])
            schema = values['schema']
            if schema > SCHEMA:
                raise ModelFileError(
                    f'{path} was written by a newer mmdet_centernet2 '
                    f'({values.get("package", "?")}, metadata schema {schema}; '
                    f'this one reads up to {SCHEMA}). Update the package.')
            resize = _build(ResizeInfo, values.pop('resize'), _RESIZE_CHOICES)
            return _build(cls, {**values, 'resize': resize}, _CHOICES)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelFileError(
                f'the metadata {KEY!r} of {path} cannot be used '
                f'({type(error).__name__}: {error}). Export the model anew '
                'with tools/deploy.py.') from error


def _build(cls: type, values: Mapping[str, Any],
           choices: Mapping[str, tuple]) -> Any:
    """Make a dataclass of those values that it knows."""
    names = {field.name for field in fields(cls)}
    known = {
        name: _as_tuples(value)
        for name, value in values.items() if name in names
    }
    for name, allowed in choices.items():
        if known.get(name, allowed[0]) not in allowed:
            raise ValueError(f'{name} is {known[name]!r}, not one of '
                             f'{", ".join(allowed)}')
    return cls(**known)


def _as_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_as_tuples(part) for part in value)
    return value
