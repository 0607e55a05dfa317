"""Batches of images that are all wide, or all not."""
from typing import Iterator, List

from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmdet.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class OriginalAspectRatioBatchSampler(AspectRatioBatchSampler):
    """mmdet's ``AspectRatioBatchSampler`` with square images among the tall.

    mmdet puts them among the wide ones. Nothing else differs, but that what
    is left at the end of a stream that ends is not mixed.

    Args:
        *args: See mmdet's ``AspectRatioBatchSampler``.
        **kwargs: See mmdet's ``AspectRatioBatchSampler``.

    Source: detectron2's ``AspectRatioGroupedDataset``.
    """

    def __iter__(self) -> Iterator[List[int]]:
        """Yield image indices of one batch after another."""
        buckets = {True: [], False: []}
        for index in self.sampler:
            info = self.sampler.dataset.get_data_info(index)
            bucket = buckets[info['width'] > info['height']]
            bucket.append(index)
            if len(bucket) == self.batch_size:
                yield bucket[:]
                bucket.clear()
        if not self.drop_last:
            yield from (bucket for bucket in buckets.values() if bucket)
