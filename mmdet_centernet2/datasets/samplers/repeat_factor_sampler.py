"""Repeating the images of rare classes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import BaseDataset, InfiniteSampler
from torch import Tensor

from .image_classes import ImageClasses


@DATA_SAMPLERS.register_module()
class RepeatFactorSampler(InfiniteSampler):
    """An endless stream that repeats images of rare classes.

    A class in the share f of the images asks for max(1, sqrt(t / f)); the
    repeat factor r of an image is the most that one of its classes asks for,
    and 1 without any. In every epoch an image comes floor(r) times, and once
    more with probability r - floor(r), drawn anew (mmdet's
    ``ClassBalancedDataset`` always rounds up); then the epoch is shuffled.

    Each rank takes its share of one stream, as with ``InfiniteSampler``: use
    an iteration-based loop, and ``randomness=dict(seed=...)`` to resume at
    the same place.

    Args:
        dataset: A detection data set of mmdet, or a wrapper.
        repeat_thr: t, the share of images below which a class is repeated.
        shuffle: Whether to shuffle each epoch.
        seed: Seed of the stream, the same on all ranks; agreed on if None.

    Raises:
        ValueError: If ``repeat_thr`` is not positive, or no image of the data
            set has an object.

    Source: LVIS paper, appendix on repeat factor sampling; detectron2's
    ``RepeatFactorTrainingSampler``.
    """

    def __init__(
        self,
        dataset: BaseDataset,
        repeat_thr: float = 0.001,
        shuffle: bool = True,
        seed: int | None = None,
    ) -> None:
        if repeat_thr <= 0:
            raise ValueError(f'repeat_thr must be above 0, got {repeat_thr}')
        super().__init__(dataset, shuffle=shuffle, seed=seed)
        classes = ImageClasses.collect(dataset)
        share = classes.images_per_class() / classes.num_images
        wanted = (repeat_thr / share).sqrt().clamp(min=1)
        self.repeat_factors = wanted.new_ones(len(dataset)).scatter_reduce(
            0, classes.images, wanted[classes.labels], 'amax'
        )

    def _infinite_indices(self) -> Iterator[int]:
        """The stream that the ranks share."""
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            indices = self._epoch(generator)
            if self.shuffle:
                order = torch.randperm(len(indices), generator=generator)
                indices = indices[order]
            yield from indices.tolist()

    def _epoch(self, generator: torch.Generator) -> Tensor:
        """Image indices of one epoch in order, as often as they come."""
        whole = self.repeat_factors.floor()
        draws = torch.rand(self.size, generator=generator)
        times = whole.long() + (draws < self.repeat_factors - whole)
        return torch.arange(self.size).repeat_interleave(times)
