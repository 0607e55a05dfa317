"""Drawing images so that all classes are seen alike."""
from typing import Iterator, Optional

import torch
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import BaseDataset, InfiniteSampler
from torch import Tensor

from .image_classes import ImageClasses


def class_aware_weights(classes: ImageClasses) -> Tensor:
    """Weight of each image: the sum of 1 / (images with c) of its classes c.

    Args:
        classes (ImageClasses): Of the data set.

    Returns:
        Tensor: float64, shape (number of images,); the sum is the number of
        classes that have images.
    """
    shares = classes.images_per_class().reciprocal()[classes.labels]
    weights = shares.new_zeros(classes.num_images)
    return weights.index_add(0, classes.images, shares)


@DATA_SAMPLERS.register_module()
class WeightedClassAwareSampler(InfiniteSampler):
    """An endless stream in which each class is drawn equally often.

    An epoch is as many draws, with replacement, as there are images. mmdet's
    ``ClassAwareSampler`` is another algorithm: it goes through the classes in
    turn. Each rank takes its share of one stream, and resuming works as with
    ``InfiniteSampler``, whose subclass it is: give it an iteration-based
    loop, and ``randomness=dict(seed=...)`` to come back to the same place.

    Args:
        dataset (BaseDataset): A detection data set of mmdet, or a wrapper.
        seed (int, optional): Seed of the stream, the same on all ranks. One
            is agreed on if None. Defaults to None.

    Raises:
        ValueError: If no image of the data set has an object.

    Source: the original's ``custom_dataset_dataloader.py``, which cannot run:
    it reads settings that do not exist.
    """

    def __init__(self,
                 dataset: BaseDataset,
                 seed: Optional[int] = None) -> None:
        super().__init__(dataset, seed=seed)
        self.weights = class_aware_weights(ImageClasses.collect(dataset))

    def _infinite_indices(self) -> Iterator[int]:
        """The stream that the ranks share."""
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            draws = torch.multinomial(
                self.weights,
                self.size,
                replacement=True,
                generator=generator)
            yield from draws.tolist()
