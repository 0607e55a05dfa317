"""Image files: which ones there are, and their pixels."""
from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from .errors import DeployedModelError, ImageError

ENDINGS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff',
           '.webp')
# What a transparent grey image is laid on, in mmcv and therefore in training.
_CANVAS = (124, 117, 104)


def list_images(inputs: str | Path) -> list[Path]:
    """The images that the user named.

    Args:
        inputs (str | Path): An image file or a folder.

    Returns:
        list[Path]: The file; of a folder all images in it, sorted, whatever
        the case of their ending.

    Raises:
        DeployedModelError: If there is none.
    """
    path = Path(inputs)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DeployedModelError(
            f'input {inputs} does not exist (looked for {path.absolute()}).')
    images = sorted(p for p in path.iterdir() if p.suffix.lower() in ENDINGS)
    if not images:
        raise DeployedModelError(
            f'folder {inputs} holds no image (a file ending in '
            f'{" ".join(ENDINGS)}).')
    return images


def read_image(path: str | Path, decoder: str = 'cv2') -> np.ndarray:
    """Decode an image as mmcv does for models in training.

    The EXIF orientation is applied.

    Args:
        path (str | Path): The file.
        decoder (str): ``cv2`` or ``pillow``. OpenCV fills what is missing of
            a truncated JPEG with grey and says nothing, Pillow notices.

    Returns:
        ndarray: (h, w, 3), uint8, BGR.

    Raises:
        ImageError: If the file is missing, empty or not an image.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f'image {path} cannot be read: {error.strerror} '
                         f'(looked for {path.absolute()}).') from error
    if not content:
        raise ImageError(f'image {path} is empty (0 bytes). Put a whole copy '
                         'in its place, or leave it out.')
    try:
        decode = _decode_pillow if decoder == 'pillow' else _decode_cv2
        return decode(content)
    except Exception as error:  # each decoder fails in its own way
        raise ImageError(
            f'image {path} ({len(content)} bytes) is truncated or not an '
            f'image that can be decoded: {error}. Put a whole copy in its '
            'place, or leave it out.') from error


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write a picture.

    Args:
        path (str | Path): The file; its ending names the format. Its folder
            is made.
        image (ndarray): (h, w, 3), uint8, BGR.

    Raises:
        DeployedModelError: If it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        encoded = cv2.imencode(path.suffix, image)[1]
    except cv2.error as error:
        raise DeployedModelError(
            f'picture {path} cannot be written: {error}') from error
    path.write_bytes(encoded.tobytes())


def _decode_cv2(content: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError('OpenCV does not know it')
    return image


def _decode_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode == 'LA':
            canvas = Image.new('RGB', image.size, _CANVAS)
            canvas.paste(image.convert('RGB'), mask=image.getchannel('A'))
            image = canvas
        return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])
