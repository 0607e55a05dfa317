"""Reading an image: errors name the file, and nothing is copied twice."""

from __future__ import annotations

import io
import os.path as osp

import cv2
import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from PIL import Image, ImageOps

from ...registry import TRANSFORMS as SCOPED_TRANSFORMS
from ...utils.errors import UserError

_ORIENTATION = 0x0112  # EXIF tag; 1 is upright


class ImageReadError(UserError, OSError):
    """An image of the data set cannot be read."""


class PillowImage:
    """A decoded photograph that is still in pillow's memory.

    Stands for ``results['img']`` between :class:`CheckedLoadImageFromFile`
    with ``lazy=True`` and :class:`EfficientDetResizeCrop`. Of mode RGB.
    """

    def __init__(self, image: Image.Image) -> None:
        self.pillow = image
        self.shape = (image.height, image.width, 3)
        self.dtype = np.dtype(np.uint8)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """As mmcv reads it: BGR, shape (h, w, 3)."""
        return to_bgr(self.pillow).astype(dtype or np.uint8, copy=False)

    def __getattr__(self, name: str):
        raise AttributeError(
            'the image was read with lazy=True, which only EfficientDetResizeCrop understands; '
            f'"{name}" was asked for. Take lazy=True out of LoadImageFromFile, or let no other '
            'step that looks at pixels come before EfficientDetResizeCrop'
        )


def to_bgr(image: Image.Image) -> np.ndarray:
    """Pixels of an RGB image as mmcv orders them: BGR, uint8, (h, w, 3)."""
    return cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR)


@SCOPED_TRANSFORMS.register_module('LoadImageFromFile')
@TRANSFORMS.register_module()
class CheckedLoadImageFromFile(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that names the file in its errors.

    Pixels are mmcv's, but for grey images of more than 8 bits, of which
    ``imdecode_backend='pillow'`` makes white ones: here 16 bits become 8 as in
    OpenCV (``value >> 8``), 32-bit and floating-point images are refused.

    Use ``imdecode_backend='pillow'`` for the pixels of detectron2. It also
    notices truncated files, which OpenCV's decoder (mmcv's default) fills with
    grey. Upright RGB photographs are copied less often than by mmcv.

    Tools of mmdet's and others look for a ``LoadImageFromFile`` in the
    pipeline. Under this name it is in the scope of this package::

        dict(type='LoadImageFromFile', _scope_='mmdet_centernet2',
             imdecode_backend='pillow')

    Args:
        *args: See mmcv's ``LoadImageFromFile``.
        lazy: Leave the decoded photograph to :class:`EfficientDetResizeCrop`,
            as a :class:`PillowImage`, rather than making an array of it.
        **kwargs: See mmcv's ``LoadImageFromFile``.

    Raises:
        ValueError: If ``lazy`` is wanted with a decoder other than pillow, or
            another type than uint8 BGR.
    """

    def __init__(self, *args, lazy: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._pillow_bgr = (
            self.imdecode_backend == 'pillow'
            and self.color_type == 'color'
            and self.file_client_args is None
        )
        if lazy and (self.to_float32 or not self._pillow_bgr):
            raise ValueError(
                "lazy=True needs imdecode_backend='pillow', color_type='color' and to_float32=False"
            )
        self.lazy = lazy

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']``; ``img`` is uint8 (h, w, 3) in BGR order.

        Raises:
            ImageReadError: If the file is missing, empty, truncated or not
                an image, or if its pixels do not fit into 8 bits.
        """
        path = results['img_path']
        image = self._upright_rgb(path) if self._pillow_bgr else None
        if image is None:
            try:
                return super().transform(results)
            except Exception as error:  # each decoder fails in its own way
                raise ImageReadError(_explain(path, error)) from error
        results['img'] = PillowImage(image) if self.lazy else to_bgr(image)
        if self.to_float32:
            results['img'] = results['img'].astype(np.float32)
        results['img_shape'] = results['img'].shape[:2]
        results['ori_shape'] = results['img_shape']
        return results

    def _upright_rgb(self, path: str) -> Image.Image | None:
        """The decoded photograph; None for what mmcv reads as well."""
        try:
            content = fileio.get(path, backend_args=self.backend_args)
            image = Image.open(io.BytesIO(content))
            image.load()
        except Exception:  # mmcv's turn, which tries once more and says why
            return None
        if image.mode[0] in 'IF':
            return _eight_bits(image, path)
        upright = image.getexif().get(_ORIENTATION, 1) == 1
        return image if image.mode == 'RGB' and upright else None


def _eight_bits(image: Image.Image, path: str) -> Image.Image:
    """A grey image of 16 bits as RGB, turned upright; others are refused."""
    # pillow widens 16 bits of some formats to its mode of 32
    widened = image.mode == 'I' and image.format in ('PNG', 'PPM')
    if not (image.mode.startswith('I;16') or widened):
        raise ImageReadError(
            f'image {path} has 32-bit or floating-point pixels (mode {image.mode!r}), whose '
            'range is not known. Save it with 8 or 16 bits.'
        )
    grey = np.asarray(ImageOps.exif_transpose(image)) >> 8
    return Image.fromarray(grey.astype(np.uint8)).convert('RGB')


def _explain(path: str, error: Exception) -> str:
    """Say what is wrong with the image ``path`` and what to do."""
    if '://' in path:
        state = 'could not be read'
    elif not osp.exists(path):
        state = f'does not exist (looked for {osp.abspath(path)})'
    elif osp.isdir(path):
        state = 'is a folder, not an image'
    elif osp.getsize(path) == 0:
        state = 'is empty (0 bytes)'
    else:
        state = (
            f'({osp.getsize(path)} bytes) is truncated or not an image that can be decoded: {error}'
        )
    return f'image {path} {state}. Put a whole copy in its place, or leave it out.'
