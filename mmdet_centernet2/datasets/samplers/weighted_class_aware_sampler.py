"""Drawing images so that all classes are seen alike."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import BaseDataset, InfiniteSampler

from .image_classes import ImageClasses


@DATA_SAMPLERS.register_module()
class WeightedClassAwareSampler(InfiniteSampler):
    """An endless stream in which each class is drawn equally often.

    The weight of an image is the sum of 1 / (images with c) of its classes c.
    An epoch is as many draws, with replacement, as there are images. mmdet's
    ``ClassAwareSampler`` is another algorithm: it goes through the classes in
    turn.

    Each rank takes its share of one stream, as with ``InfiniteSampler``: use
    an iteration-based loop, and ``randomness=dict(seed=...)`` to resume at
    the same place.

    Args:
        dataset: A detection data set of mmdet, or a wrapper.
        seed: Seed of the stream, the same on all ranks; agreed on if None.

    Raises:
        ValueError: If no image of the data set has an object.

    Source: the original's ``custom_dataset_dataloader.py``, which cannot run:
    it reads settings that do not exist.
    """

    def __init__(self, dataset: BaseDataset, seed: int | None = None) -> None:
        super().__init__(dataset, seed=seed)
        classes = ImageClasses.collect(dataset)
        shares = classes.images_per_class().reciprocal()[classes.labels]
        self.weights = shares.new_zeros(len(dataset)).index_add(0, classes.images, shares)

    def _infinite_indices(self) -> Iterator[int]:
        """The stream that the ranks share."""
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            yield from self.weights.multinomial(
                self.size, replacement=True, generator=generator
            ).tolist()
