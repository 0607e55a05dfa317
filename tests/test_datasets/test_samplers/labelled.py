"""Data sets of nothing but labels, and ranks without processes."""

from itertools import islice

from mmdet.datasets import BaseDetDataset
from mmengine.dataset import sampler as mmengine_sampler


class Labelled(BaseDetDataset):
    """Images that are known by their objects' labels alone.

    Args:
        labels (Sequence[Sequence[int]]): Labels of each image's objects.
        sizes (Sequence[tuple[int, int]], optional): Width and height of each
            image in pixels.
    """

    METAINFO = dict(classes=tuple('abcdefgh'))

    def __init__(self, labels, sizes=None, **kwargs):
        self._labels = labels
        self._sizes = sizes or [(4, 3)] * len(labels)
        kwargs.setdefault('serialize_data', False)  # which takes long
        super().__init__(**kwargs)

    def load_data_list(self):
        return [
            dict(
                width=width,
                height=height,
                instances=[
                    dict(bbox=[0, 0, 1, 1], bbox_label=label, ignore_flag=0) for label in labels
                ],
            )
            for labels, (width, height) in zip(self._labels, self._sizes)
        ]


def streams_of_ranks(monkeypatch, build, world_size, length):
    """The first indices that each of several ranks draws.

    Args:
        monkeypatch: Of pytest.
        build (Callable): Makes the sampler, as every rank does.
        world_size (int): Number of ranks.
        length (int): Indices to draw on each rank.

    Returns:
        list[list[int]]: The indices of each rank.
    """
    streams = []
    for rank in range(world_size):
        monkeypatch.setattr(mmengine_sampler, 'get_dist_info', lambda rank=rank: (rank, world_size))
        streams.append(list(islice(build(), length)))
    return streams
