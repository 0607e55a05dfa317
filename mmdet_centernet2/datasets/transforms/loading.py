"""Reading an image so that a broken file is named."""
from __future__ import annotations

import os.path as osp

from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS

# Two names. Under mmdet's usual one, so that mmdet's inferencer, which looks
# for a transform called 'LoadImageFromFile', and every config that says it
# get the clear message too; arguments and pixels are those of mmcv's class.
_NAMES = ('LoadImageFromFile', 'CheckedLoadImageFromFile')


class ImageReadError(OSError):
    """An image of the data set cannot be read."""


@TRANSFORMS.register_module(name=_NAMES)
class CheckedLoadImageFromFile(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` with errors that name the file.

    mmcv lets the decoder's own error through, which for a truncated file does
    not say which one it was. Nothing else differs: same arguments, same
    pixels, EXIF orientation applied with ``color_type='color'``.

    Use ``imdecode_backend='pillow'`` for pixels equal to the original's
    (spec §6.1, Q40). It also notices truncated files; OpenCV's decoder (the
    default of mmcv) fills what is missing with grey and says nothing.
    """

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']``.

        Args:
            results (dict): Needs ``img_path``.

        Returns:
            dict | None: The results with ``img``, uint8 of shape (h, w, 3) in
            BGR order, ``img_shape`` and ``ori_shape``; None for an unreadable
            file with ``ignore_empty=True``.

        Raises:
            ImageReadError: If the file is missing, empty, truncated or not
                an image.
        """
        path = results['img_path']
        try:
            return super().transform(results)
        except Exception as error:  # each decoder fails in its own way
            raise ImageReadError(_explain(path, error)) from error


def _explain(path: str, error: Exception) -> str:
    """Say what is wrong with the image ``path`` and what to do."""
    if '://' in path:
        state = 'could not be read'
    elif not osp.exists(path):
        state = ('does not exist (looked for '
                 f'{osp.abspath(path)})')
    elif osp.isdir(path):
        state = 'is a folder, not an image'
    elif osp.getsize(path) == 0:
        state = 'is empty (0 bytes)'
    else:
        state = (f'({osp.getsize(path)} bytes) is truncated or not an image '
                 f'that can be decoded: {error}')
    return (f'image {path} {state}. Put a whole copy in its place, or leave '
            'it out.')
