"""From images to detections with an exported model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .backends import Session, open_session
from .detections import Detections, finish
from .errors import ImageError, ModelFileError
from .images import read_image
from .model_info import ModelInfo
from .preprocess import Prepared, prepare, to_batch

ImageLike = 'str | Path | np.ndarray'


class Detector:
    """An exported model that takes images and gives detections.

    Threads may share one.

    Args:
        model: The file that ``tools/deploy.py`` wrote.
        backend: What runs it, ``onnxruntime`` or ``openvino``.
        device: Such as ``cpu`` or ``cuda:0``.
        threads: Of the CPU; all cores that this process may use unless given.

    Attributes:
        info: What the file says about itself.
        session (Session): Runs the graph on arrays.

    Raises:
        ModelFileError: If the file is missing, not a model, or not one that
            this package exported.
        DeployedModelError: If backend, device or threads cannot be had.
    """

    def __init__(
        self,
        model: str | Path,
        backend: str = 'onnxruntime',
        device: str = 'cpu',
        threads: int | None = None,
    ):
        self.path = str(model)
        self.session = open_session(model, backend, device, threads)
        self.info = ModelInfo.from_metadata(self.session.metadata, self.path)
        _check_graph(self.session, self.info, self.path)
        self._fixed_batch, _, height, width = self.session.input_shapes['input']
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
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ImageError(
                f'an image is {image.shape} of {image.dtype}; '
                'it must be (height, width, 3) of uint8, BGR.'
            )
        return prepare(image, self.info, self._fixed)

    def feeds(self, images: Sequence[Prepared]) -> dict[str, np.ndarray]:
        """The graph's inputs for at least one image; the last one fills up a fixed batch size."""
        missing = (self._fixed_batch or len(images)) - len(images)
        batch, sizes = to_batch([*images, *[images[-1]] * missing], self.info, self._fixed)
        feeds = dict(input=batch, image_sizes=sizes)
        return {name: feeds[name] for name in self.session.input_shapes}

    def _detect(self, images: Sequence[Prepared]) -> list[Detections]:
        outputs = self.session(self.feeds(images))
        names = ('dets', 'labels', 'masks')
        dets, labels, masks = (outputs.get(n, [None] * len(images)) for n in names)
        if labels.max(initial=-1) >= len(self.info.classes):
            raise ModelFileError(
                f'{self.path} finds class {labels.max()}, but its metadata name '
                f'{len(self.info.classes)} classes. Export it again with tools/deploy.py.'
            )
        return [
            finish(*arrays, image.original_size, image.scale_factor, self.info.mask_thr)
            for image, *arrays in zip(images, dets, labels, masks)
        ]


def _check_graph(session: Session, info: ModelInfo, path: str) -> None:
    """Compare the graph's inputs and outputs with what the metadata promise."""
    inputs = {'input'} | ({'image_sizes'} if info.image_size_input else set())
    outputs = {'dets', 'labels'} | ({'masks'} if info.task == 'mask' else set())
    found = session.input_shapes, session.output_names
    if set(found[0]) != inputs or not outputs <= set(found[1]):
        takes, gives, *said = (', '.join(sorted(names)) for names in (*found, inputs, outputs))
        raise ModelFileError(
            f'{path} takes {takes} and gives {gives}, but its metadata say '
            f'{said[0]} and {said[1]}. Export it again with tools/deploy.py.'
        )
