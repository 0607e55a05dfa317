"""Image files: which ones there are, and their pixels."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from .errors import DeployedModelError, ImageError
from .video import Video, is_video

ENDINGS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp')
# What a transparent grey image is laid on, in mmcv and therefore in training.
_CANVAS = (124, 117, 104)


def list_images(inputs: str | Path) -> list[Path]:
    """An image or video file, or all images of a folder, sorted.

    Raises:
        DeployedModelError: If there is none, or a video cannot be decoded.
    """
    path = Path(inputs)
    if path.is_file():
        if is_video(path):
            Video(path)  # refused before the work starts
        return [path]
    if not path.is_dir():
        raise DeployedModelError(f'input {inputs} does not exist (looked for {path.absolute()}).')
    files = sorted(each for each in path.iterdir() if each.is_file())
    images = [each for each in files if each.suffix.lower() in ENDINGS]
    if not images:
        raise DeployedModelError(
            f'folder {inputs} holds no image (a file ending in {" ".join(ENDINGS)}).'
        )
    skipped = [each.name for each in files if each.suffix.lower() not in ENDINGS]
    if skipped:
        more = ', ...' if len(skipped) > 10 else ''
        print(
            f'{len(skipped)} files of {inputs} are skipped, as they do not end in '
            f'{" ".join(ENDINGS)}: {", ".join(skipped[:10])}{more}'
        )
    return images


def read_image(path: str | Path, decoder: str = 'cv2') -> np.ndarray:
    """Decode an image as mmcv does for models in training.

    The EXIF orientation is applied. Of 16 bits the upper 8 are taken.

    Args:
        path: The file.
        decoder: ``cv2`` or ``pillow``. OpenCV fills what is missing of
            a truncated JPEG with grey and says nothing, Pillow notices.

    Returns:
        (h, w, 3), uint8, BGR.

    Raises:
        ImageError: If the file is missing, empty or not an image, or if its
            pixels are 32-bit integers or floating-point numbers.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(
            f'image {path} cannot be read: {error.strerror} (looked for {path.absolute()}).'
        ) from error
    if not content:
        raise ImageError(
            f'image {path} is empty (0 bytes). Put a whole copy in its place, or leave it out.'
        )
    try:
        _refuse_wide_pixels(content, path)
        return (_decode_pillow if decoder == 'pillow' else _decode_cv2)(content)
    except ImageError:
        raise
    except Exception as error:  # each decoder fails in its own way
        raise ImageError(
            f'image {path} ({len(content)} bytes) is truncated or not an image that can be '
            f'decoded: {error}. Put a whole copy in its place, or leave it out.'
        ) from error


def write_image(path: Path, image: np.ndarray) -> None:
    """Write pixels (h, w, 3), uint8, BGR; ``.png`` is added to an ending that cannot be written.

    Raises:
        DeployedModelError: If OpenCV cannot write the picture.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS or ending == '.pgm':  # which is grey
        path = path.with_name(f'{path.name}.png')
    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(path.suffix, image)
    if not done:
        raise DeployedModelError(f'picture {path} cannot be written by OpenCV.')
    path.write_bytes(encoded.tobytes())


def _refuse_wide_pixels(content: bytes, path: Path) -> None:
    """Refuse pixels whose black and white are not known."""
    try:
        with Image.open(io.BytesIO(content)) as file:
            mode, wide = file.mode, file.mode in 'IF' and not _is_16_bit(file)
    except Exception:  # OpenCV may know it
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            return
        mode, wide = pixels.dtype.name, pixels.dtype.itemsize > 2
    if wide:
        raise ImageError(
            f'image {path} has 32-bit or floating-point pixels (mode {mode!r}), whose range is '
            'not known. Save it with 8 or 16 bits.'
        )


def _is_16_bit(image: Image.Image) -> bool:
    # Pillow widens 16 bits of some formats to its mode of 32
    return image.mode.startswith('I;16') or (image.mode == 'I' and image.format in ('PNG', 'PPM'))


def _decode_cv2(content: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError('OpenCV does not know it')
    return image


def _decode_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as file:
        image = ImageOps.exif_transpose(file)
        if _is_16_bit(file):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode == 'LA':
            canvas = Image.new('RGB', image.size, _CANVAS)
            canvas.paste(image.convert('RGB'), mask=image.getchannel('A'))
            image = canvas
        return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])
