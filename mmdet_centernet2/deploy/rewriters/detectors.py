"""A second input: the sizes of the images before they were padded.

Boxes are clipped to the image between the stages. In PyTorch its size is in
the data samples; a graph has to be given it.
"""

from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import Tensor, nn

#: Name of the second input, and of the entry in the images' meta information.
IMAGE_SIZES = 'image_sizes'


class DetectorWithSizes(nn.Module):
    """A detector whose ``forward`` takes the images' sizes as a tensor."""

    def __init__(self, module: nn.Module, deploy_cfg: Config) -> None:
        super().__init__()
        self.detector = module
        self.training = module.training  # the exporter restores this one

    def forward(
        self,
        batch_inputs: Tensor,
        image_sizes: Tensor | None = None,
        data_samples: list[DetDataSample] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the detector as mmdeploy has rewritten it.

        Args:
            batch_inputs: Images, (B, 3, H, W).
            image_sizes: Height and width in pixels without padding, shape
                (B, 2). Defaults to the inputs' size.
            data_samples: Of the images.
            **kwargs: ``mode``.
        """
        samples = data_samples or [DetDataSample()]
        for sample in samples:
            sample.set_field(name=IMAGE_SIZES, value=image_sizes, field_type='metainfo')
        return self.detector(batch_inputs, data_samples=samples, **kwargs)


def get_image_sizes(batch_img_metas: list[dict], like: Tensor) -> Tensor:
    """(height, width) of the images inside a graph, in pixels, (B, 2).

    Args:
        batch_img_metas: What the detector has been given; without a second
            input, the size of the inputs (``img_shape``) is taken.
        like: Gives batch size, type and device, (B, ...).
    """
    meta = batch_img_metas[0]
    sizes = meta.get(IMAGE_SIZES)
    if sizes is not None:
        return sizes
    shape = meta['img_shape'][:2]
    if not isinstance(shape, Tensor):
        shape = torch.tensor(shape)
    return shape.to(like)[None].expand(like.size(0), -1)
