"""A second input: the sizes of the images before padding.

Boxes are clipped to the image between the stages. In PyTorch its size is in
the data samples; a graph needs it as an input.
"""

import copy
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import Tensor, nn

#: Name of the second input, and of the entry in the images' meta information.
IMAGE_SIZES = 'image_sizes'


def with_sizes(detector: nn.Module, deploy_cfg: Config) -> nn.Module:
    """A copy of a detector whose ``forward`` takes the images' sizes as a second input."""

    def forward(
        batch_inputs: Tensor,
        image_sizes: Tensor | None = None,
        data_samples: list[DetDataSample] | None = None,
        **kwargs: Any,
    ) -> Any:
        samples = data_samples or [DetDataSample()]
        for sample in samples:
            sample.set_field(name=IMAGE_SIZES, value=image_sizes, field_type='metainfo')
        return detector.forward(batch_inputs, data_samples=samples, **kwargs)

    copied = copy.copy(detector)
    copied.forward = forward
    return copied


def get_image_sizes(meta: dict, like: Tensor) -> Tensor:
    """(height, width) of the images in pixels, (B, 2), inside a graph.

    Without a second input they are that of the inputs, ``img_shape``. ``like``
    gives batch size, type and device, (B, ...).
    """
    sizes = meta.get(IMAGE_SIZES)
    if sizes is not None:
        return sizes
    shape = torch.as_tensor(meta['img_shape'][:2])
    return shape.to(like)[None].expand(like.size(0), -1)
