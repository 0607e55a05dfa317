"""Which classes the images of a data set hold."""
from __future__ import annotations

from typing import Iterable, NamedTuple

import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from rich.progress import track
from torch import Tensor

#: From this many images on, counting shows its progress.
MANY_IMAGES = 20000


class ImageClasses(NamedTuple):
    """Every distinct pair of an image and a class in it.

    Attributes:
        images (Tensor): Index of the image in the data set, shape (P,).
        labels (Tensor): Label of the class, shape (P,).
        num_images (int): Images in the data set, with or without objects.
    """
    images: Tensor
    labels: Tensor
    num_images: int

    @classmethod
    def collect(cls, dataset: BaseDataset) -> 'ImageClasses':
        """Look at every image of a data set, a matter of seconds for 100,000.

        Crowd annotations count, as they do in the original.

        Args:
            dataset (BaseDataset): A detection data set of mmdet, or a wrapper
                such as ``ConcatDataset`` around some.

        Returns:
            ImageClasses: Its pairs.

        Raises:
            ValueError: If no image of it has an object.
        """
        images, labels = [], []
        for index in _indices(dataset):
            found = set(labels_of(dataset, index))
            images += [index] * len(found)
            labels += found
        if not labels:
            raise ValueError(
                'the classes of a data set decide how often its images are '
                f'drawn, but none of its {len(dataset)} images has an '
                'annotation; check ann_file and the classes (metainfo)')
        return cls(torch.tensor(images), torch.tensor(labels), len(dataset))

    def images_per_class(self) -> Tensor:
        """Number of images that hold each class, shape (highest label + 1,).

        Returns:
            Tensor: float64, zero for a class without images.
        """
        return torch.bincount(self.labels).double()


def labels_of(dataset: BaseDataset, index: int) -> Iterable[int]:
    """Labels of the objects in an image, one for each object.

    Args:
        dataset (BaseDataset): See :meth:`ImageClasses.collect`.
        index (int): Index of the image.

    Returns:
        Iterable[int]: The labels.
    """
    if hasattr(dataset, 'get_cat_ids'):
        return dataset.get_cat_ids(index)
    # The wrappers pass this on to the data set that holds the image.
    instances = dataset.get_data_info(index)['instances']
    return [instance['bbox_label'] for instance in instances]


def _indices(dataset: BaseDataset) -> Iterable[int]:
    """Indices of the images, with a progress bar if there are many."""
    indices = range(len(dataset))
    if len(dataset) < MANY_IMAGES or not is_main_process():
        return indices
    print_log(f'counting the classes of {len(dataset)} images', 'current')
    return track(indices, 'counting classes', transient=True)
