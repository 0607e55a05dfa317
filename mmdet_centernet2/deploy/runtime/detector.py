"""From photographs to detections with an exported model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .backends import open_session
from .detections import Detections, finish
from .errors import ImageError, ModelFileError
from .images import read_image
from .model_info import ModelInfo
from .preprocess import Prepared, prepare, to_batch

ImageLike = 'str | Path | np.ndarray'


class Detector:
    """An exported model that takes photographs and gives detections.

    Args:
        model: The file that ``tools/deploy.py`` wrote.
        backend: What runs it, ``onnxruntime`` or ``openvino``.
        device: Such as ``cpu`` or ``cuda:0``.
        threads: Threads of the CPU; all cores unless given.

    Attributes:
        info: What the file says about itself.
        session (Session): Runs the graph on arrays.

    Raises:
        ModelFileError: If the file is missing, not a model, or not one that
            this package exported.
        DeployedModelError: If the backend or the device is not there.
    """

    def __init__(
        self,
        model: str | Path,
        backend: str = 'onnxruntime',
        device: str = 'cpu',
        threads: int | None = None,
    ):
        self.session = open_session(model, backend, device, threads)
        self.info = ModelInfo.from_metadata(self.session.metadata, str(model))
        _check_graph(self.session, self.info, str(model))
        shape = self.session.input_shapes['input']
        self._fixed_batch, _, height, width = shape
        self._fixed = (width, height) if width and height else None

    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> Detections | list[Detections]:
        """Detect on one image or on several, which run as one batch.

        Args:
            images: A path or pixels (h, w, 3), uint8, BGR; or a list of them.

        Returns:
            For each image, in its pixels.

        Raises:
            ImageError: If an image cannot be read.
        """
        if not isinstance(images, (list, tuple)):
            return self([images])[0]
        prepared = [self.prepare(image) for image in images]
        step = self._fixed_batch or max(len(prepared), 1)
        return [
            found
            for start in range(0, len(prepared), step)
            for found in self._detect(prepared[start : start + step])
        ]

    def prepare(self, image: ImageLike) -> Prepared:
        """Read an image if it is a path; resize and normalise it."""
        if not isinstance(image, np.ndarray):
            image = read_image(image, self.info.decoder)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ImageError(
                f'an image is {image.shape} of {image.dtype}; '
                'it must be (height, width, 3) of uint8, BGR.'
            )
        return prepare(image, self.info, self._fixed)

    def feeds(self, images: Sequence[Prepared]) -> dict[str, np.ndarray]:
        """The graph's inputs for a batch.

        Args:
            images: At least one; for a model of fixed
                batch size at most that many, the last one then fills it up.

        Returns:
            ``input`` (B, 3, H, W) and, if the model wants
            it, ``image_sizes`` (B, 2).
        """
        missing = (self._fixed_batch or len(images)) - len(images)
        batch, sizes = to_batch([*images, *[images[-1]] * missing], self.info, self._fixed)
        feeds = dict(input=batch, image_sizes=sizes)
        return {name: feeds[name] for name in self.session.input_shapes}

    def _detect(self, images: Sequence[Prepared]) -> list[Detections]:
        outputs = self.session(self.feeds(images))
        masks = outputs.get('masks')
        return [
            finish(
                outputs['dets'][i],
                outputs['labels'][i],
                None if masks is None else masks[i],
                image,
                self.info.mask_thr,
            )
            for i, image in enumerate(images)
        ]


def _check_graph(session, info: ModelInfo, path: str) -> None:
    """Compare the graph's ends with what the metadata promise."""
    inputs = {'input'} | ({'image_sizes'} if info.image_size_input else set())
    outputs = {'dets', 'labels'} | ({'masks'} if info.task == 'mask' else set())
    if set(session.input_shapes) != inputs:
        raise ModelFileError(
            f'{path} takes {_names(session.input_shapes)}, but its metadata '
            f'say {_names(inputs)}. Export it anew with tools/deploy.py.'
        )
    if not outputs <= set(session.output_names):
        raise ModelFileError(
            f'{path} gives {_names(session.output_names)}, but detections are '
            f'in {_names(outputs)}. Export the whole model with '
            'tools/deploy.py.'
        )


def _names(names) -> str:
    return ', '.join(sorted(names))
