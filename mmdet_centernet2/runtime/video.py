"""Video files: their frames, and what is written of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from .errors import DeployedModelError, ImageError

ENDINGS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv', '.3gp')
_DEFAULT_FPS = 25.0


class Video:
    """The frames (h, w, 3), uint8, BGR, of a video file; to be gone through once.

    Args:
        path: The file.

    Attributes:
        fps: Frames per second.
        count: How many there are, as the file says; 0 if it does not.

    Raises:
        ImageError: If OpenCV cannot decode the first frame.
    """

    def __init__(self, path: str | Path):
        self._capture = cv2.VideoCapture(str(path))
        self._first = self._capture.read()[1]
        if self._first is None:
            raise ImageError(
                f'video {path} cannot be decoded by OpenCV. Convert it: '
                f'ffmpeg -i {path} converted.mp4'
            )
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or _DEFAULT_FPS
        self.count = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def __iter__(self) -> Iterator[np.ndarray]:
        frame = self._first
        while frame is not None:
            yield frame
            frame = self._capture.read()[1]

    def writer(self, path: Path) -> cv2.VideoWriter:
        """A new MP4 file for frames of the same size and rate, without sound.

        Raises:
            DeployedModelError: If it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = self._first.shape[:2]
        writer = cv2.VideoWriter(
            str(path), cv2.VideoWriter_fourcc(*'mp4v'), self.fps, (width, height)
        )
        if not writer.isOpened():
            raise DeployedModelError(f'video {path} cannot be written by OpenCV.')
        return writer


def is_video(path: str | Path) -> bool:
    """Whether a file's name ends as that of a video."""
    return Path(path).suffix.lower() in ENDINGS
