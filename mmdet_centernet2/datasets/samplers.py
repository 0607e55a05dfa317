"""Samplers of the data loaders.

Those that draw by class are endless, and each rank takes its share of one
stream, as with ``InfiniteSampler``: use an iteration-based loop, and
``randomness=dict(seed=...)`` to resume at the same place. Data sets may be
wrapped, in ``ConcatDataset`` for example.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import BaseDataset, InfiniteSampler
from torch import Tensor

__all__ = ['OriginalAspectRatioBatchSampler', 'RepeatFactorSampler', 'WeightedClassAwareSampler']


class _ClassSampler(InfiniteSampler):
    """Draws epoch after epoch with a generator of its own."""

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            yield from self._epoch(generator).tolist()

    def _epoch(self, generator: torch.Generator) -> Tensor:
        raise NotImplementedError


@DATA_SAMPLERS.register_module()
class RepeatFactorSampler(_ClassSampler):
    """Repeats images of rare classes.

    A class in the share f of the images asks for max(1, sqrt(t / f)); the
    repeat factor r of an image is the most that one of its classes asks for,
    and 1 without any. In every epoch an image comes floor(r) times, and once
    more with probability r - floor(r), drawn anew (mmdet's
    ``ClassBalancedDataset`` always rounds up).

    Args:
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
        images, labels = images_and_labels(dataset)
        share = labels.bincount().double() / len(dataset)
        wanted = (repeat_thr / share).sqrt().clamp(min=1)
        self.repeat_factors = wanted.new_ones(len(dataset)).scatter_reduce(
            0, images, wanted[labels], 'amax'
        )

    def _epoch(self, generator: torch.Generator) -> Tensor:
        whole = self.repeat_factors.floor()
        draws = torch.rand(self.size, generator=generator)
        times = whole.long() + (draws < self.repeat_factors - whole)
        indices = torch.arange(self.size).repeat_interleave(times)
        if self.shuffle:
            indices = indices[torch.randperm(len(indices), generator=generator)]
        return indices


@DATA_SAMPLERS.register_module()
class WeightedClassAwareSampler(_ClassSampler):
    """Draws each class equally often.

    The weight of an image is the sum of 1 / (images with c) of its classes c.
    An epoch is as many draws, with replacement, as there are images. mmdet's
    ``ClassAwareSampler`` goes through the classes in turn instead.

    Raises:
        ValueError: If no image of the data set has an object.

    Source: the original's ``custom_dataset_dataloader.py``, which cannot run:
    it reads settings that do not exist.
    """

    def __init__(self, dataset: BaseDataset, seed: int | None = None) -> None:
        super().__init__(dataset, seed=seed)
        images, labels = images_and_labels(dataset)
        shares = labels.bincount().double().reciprocal()[labels]
        self.weights = shares.new_zeros(len(dataset)).index_add(0, images, shares)

    def _epoch(self, generator: torch.Generator) -> Tensor:
        return self.weights.multinomial(self.size, replacement=True, generator=generator)


def images_and_labels(dataset: BaseDataset) -> tuple[Tensor, Tensor]:
    """Every distinct pair of an image's index and a label in it, (P,) each.

    Crowd annotations count, as they do in the original.

    Raises:
        ValueError: If no image has an object.
    """
    infos = map(dataset.get_data_info, range(len(dataset)))
    found = ({i['bbox_label'] for i in info['instances']} for info in infos)
    pairs = [(index, label) for index, labels in enumerate(found) for label in labels]
    if not pairs:
        raise ValueError(
            f'none of the {len(dataset)} images of the data set has an annotation, which this '
            'sampler draws by; check ann_file and the classes (metainfo)'
        )
    table = torch.tensor(pairs)
    return table[:, 0], table[:, 1]


@DATA_SAMPLERS.register_module()
class OriginalAspectRatioBatchSampler(AspectRatioBatchSampler):
    """mmdet's ``AspectRatioBatchSampler`` with square images among the tall.

    mmdet puts them among the wide ones. Nothing else differs, but that what
    is left at the end of a stream that ends is not mixed.

    Source: detectron2's ``AspectRatioGroupedDataset``.
    """

    def __iter__(self) -> Iterator[list[int]]:
        """Yield image indices of one batch after another."""
        buckets: dict[bool, list[int]] = {True: [], False: []}
        for index in self.sampler:
            info = self.sampler.dataset.get_data_info(index)
            bucket = buckets[info['width'] > info['height']]
            bucket.append(index)
            if len(bucket) == self.batch_size:
                yield bucket[:]
                bucket.clear()
        if not self.drop_last:
            yield from (bucket for bucket in buckets.values() if bucket)
