"""Reading an image: errors name the file."""

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


@SCOPED_TRANSFORMS.register_module('LoadImageFromFile')
@TRANSFORMS.register_module()
class CheckedLoadImageFromFile(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that names the file in its errors.

    Pixels are mmcv's, but for grey images of more than 8 bits, of which
    ``imdecode_backend='pillow'`` makes white ones: here 16 bits become 8 as in
    OpenCV (``value >> 8``), 32-bit and floating-point images are refused.

    Use ``imdecode_backend='pillow'`` for the pixels of detectron2. It also
    notices truncated files, which OpenCV's decoder (mmcv's default) fills with
    grey. Whole colour JPEGs without EXIF are still read by OpenCV: both call
    libjpeg-turbo.

    Tools of mmdet's and others look for a ``LoadImageFromFile`` in the
    pipeline. Under this name it is in the scope of this package::

        dict(type='LoadImageFromFile', _scope_='mmdet_centernet2',
             imdecode_backend='pillow')

    Args:
        *args: See mmcv's ``LoadImageFromFile``.
        **kwargs: See mmcv's ``LoadImageFromFile``.
    """

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']``; ``img`` is uint8 (h, w, 3) in BGR order.

        Raises:
            ImageReadError: If the file is missing, empty, truncated or not
                an image, or if its pixels do not fit into 8 bits.
        """
        path = results['img_path']
        image = None
        if self.imdecode_backend == 'pillow' and self.color_type == 'color':
            image = self._decode(path)
        if image is None:
            try:
                return super().transform(results)
            except Exception as error:  # each decoder fails in its own way
                raise ImageReadError(_explain(path, error)) from error
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _decode(self, path: str) -> np.ndarray | None:
        """Upright RGB images, and grey ones of 16 bits; None for what mmcv reads as well."""
        try:
            if self.backend_args or '://' in path:
                content = fileio.get(path, backend_args=self.backend_args)
            else:  # several times as fast
                with open(path, 'rb') as file:
                    content = file.read()
            if _is_plain_jpeg(content):
                flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # there is none
                return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
            image = Image.open(io.BytesIO(content))
            if image.mode == 'RGB' and image.getexif().get(_ORIENTATION, 1) == 1:
                return cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR)
            if image.mode[0] not in 'IF':
                return None
            image.load()
        except Exception:  # mmcv's turn, which tries once more and says why
            return None
        return _eight_bits(image, path)


def _is_plain_jpeg(content: bytes) -> bool:
    """Whether it is a whole JPEG of three colours, without EXIF."""
    if not (content.startswith(b'\xff\xd8') and content.endswith(b'\xff\xd9')):
        return False
    at = 2
    while content[at] == 0xFF and content[at + 1] != 0xE1:  # APP1: EXIF or XMP
        if content[at + 1] in (0xC0, 0xC1, 0xC2):  # the frame's header
            return content[at + 9] == 3
        at += 2 + int.from_bytes(content[at + 2 : at + 4], 'big')
    return False


def _eight_bits(image: Image.Image, path: str) -> np.ndarray:
    """A grey image of 16 bits as BGR of 8, turned upright; others are refused."""
    # pillow widens 16 bits of some formats to its mode of 32
    widened = image.mode == 'I' and image.format in ('PNG', 'PPM')
    if not (image.mode.startswith('I;16') or widened):
        raise ImageReadError(
            f'image {path} has 32-bit or floating-point pixels (mode {image.mode!r}), whose '
            'range is not known. Save it with 8 or 16 bits.'
        )
    grey = np.asarray(ImageOps.exif_transpose(image)) >> 8
    return cv2.cvtColor(grey.astype(np.uint8), cv2.COLOR_GRAY2BGR)


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
