"""The one flattening of multi-level maps that the whole package uses.

Rows are **level-major, then image, then y, then x**::

    row = B * sum(H_k * W_k for k < level) + image * H * W + y * W + x
"""
from functools import lru_cache
from typing import List, NamedTuple, Sequence, Tuple, Type

import torch
from torch import Tensor


class LevelLayout(NamedTuple):
    """Shapes and row offsets of a batch of multi-level maps.

    Layouts are shared between callers: their tensors must not be changed.

    Args:
        sizes (Tensor): Height and width of each level's map, in cells,
            shape (L, 2), int64.
        strides (Tensor): Pixels per cell of each level, shape (L, ), int64.
        starts (Tensor): First row of each level, shape (L, ), int64.
        areas (Tensor): Cells of each level's map, shape (L, ), int64.
        batch_size (int): Number of images, B.
        num_rows (int): Total number of rows, ``M = B * sum(H * W)``.
    """
    sizes: Tensor
    strides: Tensor
    starts: Tensor
    areas: Tensor
    batch_size: int
    num_rows: int

    @classmethod
    def build(cls, featmap_sizes: Sequence[Tuple[int, int]],
              strides: Sequence[int], batch_size: int,
              device: torch.device) -> 'LevelLayout':
        """The layout of ``batch_size`` images.

        Its tensors are kept for the next batch of the same shape: on a GPU
        every copy from the host would be waited for.

        Args:
            featmap_sizes (Sequence[tuple[int, int]]): (H, W) of each level.
            strides (Sequence[int]): Stride of each level in pixels.
            batch_size (int): Number of images.
            device (torch.device): Where the index tensors live.

        Raises:
            ValueError: If the numbers of levels differ.
        """
        if len(featmap_sizes) != len(strides):
            raise ValueError(
                f'got {len(featmap_sizes)} feature maps but {len(strides)} '
                'strides; `strides` of the head must name one stride for '
                'each level that the neck returns')
        sizes = tuple((int(h), int(w)) for h, w in featmap_sizes)
        return _build(cls, sizes, tuple(strides), batch_size, device)

    def rows(self, levels: Tensor, images: Tensor, ys: Tensor,
             xs: Tensor) -> Tensor:
        """Row numbers of cells; all arguments broadcast, no range check."""
        return (self.starts[levels] + images * self.areas[levels] +
                ys * self.sizes[levels, 1] + xs)

    def elements(self, rows: Tensor, labels: Tensor,
                 num_classes: int) -> Tensor:
        """Places in the heat maps, each level (B, C, H, W), laid end to end.

        Args:
            rows (Tensor): Row numbers, shape (K, ), -1 for none.
            labels (Tensor): Classes, shape (K, ).
            num_classes (int): Channels of the maps, C.

        Returns:
            Tensor: ``C * start + (image * C + label) * H * W + y * W + x``
            with the start and size of the row's level, and -1 for no row,
            shape (K, ), int64.
        """
        if num_classes == 1:
            return rows
        levels = torch.searchsorted(self.starts, rows, right=True) - 1
        levels = levels.clamp_(min=0)
        areas = self.areas.index_select(0, levels)
        starts = self.starts.index_select(0, levels)
        images = torch.div(rows - starts, areas, rounding_mode='floor')
        others = (images * (num_classes - 1) + labels) * areas
        places = rows + starts * (num_classes - 1) + others
        return torch.where(rows < 0, rows, places)


@lru_cache(maxsize=1024)
def _build(cls: Type[LevelLayout], sizes: Tuple[Tuple[int, int], ...],
           strides: Tuple[int, ...], batch_size: int,
           device: torch.device) -> LevelLayout:
    """See :meth:`LevelLayout.build`."""
    areas = [height * width for height, width in sizes]
    starts = [batch_size * sum(areas[:i]) for i in range(len(areas))]
    with torch.inference_mode(False):  # to be used in training, too
        return cls(
            sizes=torch.tensor(sizes, device=device).view(-1, 2),
            strides=torch.tensor(strides, device=device),
            starts=torch.tensor(starts, device=device),
            areas=torch.tensor(areas, device=device),
            batch_size=batch_size,
            num_rows=batch_size * sum(areas))


def flatten_levels(maps: Sequence[Tensor]) -> Tensor:
    """Flatten multi-level maps into rows.

    Args:
        maps (Sequence[Tensor]): One map a level, each (B, C, H, W).

    Returns:
        Tensor: Shape (M, C), rows ordered as the module says.
    """
    return torch.cat([
        level.permute(0, 2, 3, 1).reshape(-1, level.size(1)) for level in maps
    ])


def cell_centers(size: Tuple[int, int], stride: int, dtype: torch.dtype,
                 device: torch.device) -> Tensor:
    """Pixel positions of the cells of one level.

    A cell stands for the pixel ``(x * s + s // 2, y * s + s // 2)``.

    Args:
        size (tuple[int, int]): (H, W) of the map.
        stride (int): Pixels per cell.
        dtype (torch.dtype): Floating point type of the result.
        device (torch.device): Device of the result.

    Returns:
        Tensor: Shape (H * W, 2), (x, y) in pixels, y the outer index.
    """
    height, width = size
    ys = torch.arange(height, dtype=dtype, device=device) * stride
    xs = torch.arange(width, dtype=dtype, device=device) * stride
    ys, xs = torch.meshgrid(ys, xs, indexing='ij')
    return torch.stack([xs, ys], dim=-1).reshape(-1, 2) + stride // 2


def featmap_sizes(maps: Sequence[Tensor]) -> List[Tuple[int, int]]:
    """(H, W) of each level's map."""
    return [(level.size(-2), level.size(-1)) for level in maps]
