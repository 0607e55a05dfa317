"""Which classes the images of a data set hold."""

from __future__ import annotations

from typing import NamedTuple

import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process
from rich.progress import track
from torch import Tensor

MANY_IMAGES = 20000  # from here on, counting shows its progress


class ImageClasses(NamedTuple):
    """Every distinct pair of an image and a class in it.

    Attributes:
        images: Index of the image in the data set, shape (P,).
        labels: Label of the class, shape (P,).
        num_images: Images in the data set, with or without objects.
    """

    images: Tensor
    labels: Tensor
    num_images: int

    @classmethod
    def collect(cls, dataset: BaseDataset) -> ImageClasses:
        """Look at every image of a data set, a matter of seconds for 100,000.

        Crowd annotations count, as they do in the original.

        Args:
            dataset: A detection data set of mmdet, or a wrapper such as
                ``ConcatDataset`` around some.

        Raises:
            ValueError: If no image of it has an object.
        """
        images: list[int] = []
        labels: list[int] = []
        for index in track(
            range(len(dataset)),
            'counting classes',
            transient=True,
            disable=len(dataset) < MANY_IMAGES or not is_main_process(),
        ):
            found = set(_labels_of(dataset, index))
            images += [index] * len(found)
            labels += found
        if not labels:
            raise ValueError(
                'the classes of a data set decide how often its images are '
                f'drawn, but none of its {len(dataset)} images has an '
                'annotation; check ann_file and the classes (metainfo)'
            )
        return cls(torch.tensor(images), torch.tensor(labels), len(dataset))

    def images_per_class(self) -> Tensor:
        """Number of images with each class, float64, (highest label + 1,)."""
        return torch.bincount(self.labels).double()


def _labels_of(dataset: BaseDataset, index: int) -> list[int]:
    """Labels of the objects in an image, one for each object."""
    if hasattr(dataset, 'get_cat_ids'):
        return dataset.get_cat_ids(index)
    # The wrappers pass this on to the data set that holds the image.
    instances = dataset.get_data_info(index)['instances']
    return [instance['bbox_label'] for instance in instances]
