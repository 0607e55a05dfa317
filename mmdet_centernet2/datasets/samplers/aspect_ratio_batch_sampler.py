"""Batches of images that are all wide, or all not."""

from __future__ import annotations

from collections.abc import Iterator

from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmdet.registry import DATA_SAMPLERS


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
