"""mmdeploy's task processor, with images as in the model's own tests."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdeploy.codebase.mmdet.deploy.object_detection import ObjectDetection
from mmdeploy.utils import get_input_shape, is_dynamic_shape
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from .metadata import build_metadata, test_pipeline, wants_image_sizes


class CenterNet2Detection(ObjectDetection):
    """Object detection, with the unpadded image sizes as a second input.

    A static shape does not distort images: they are resized as in the model's
    own tests and padded to that shape. ``codebase_config`` may set
    ``image_size_input=False`` for runtimes that can feed one tensor only.
    """

    def __init__(self, model_cfg: Config, deploy_cfg: Config, device: str) -> None:
        super().__init__(model_cfg, deploy_cfg, device)
        if 'test_pipeline' not in self.model_cfg:
            self.model_cfg.test_pipeline = test_pipeline(self.model_cfg)

    def build_pytorch_model(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Build the model; ``finish`` reads the attributes set here."""
        model = super().build_pytorch_model(*args, **kwargs)
        model.deploy_metadata = build_metadata(self.model_cfg, self.deploy_cfg)
        model.deploy_half_features = self.deploy_cfg.codebase_config.get('half_features', False)
        return model

    def create_input(
        self,
        imgs: Any,
        input_shape: Sequence[int] | None = None,
        data_preprocessor: BaseDataPreprocessor | None = None,
    ) -> tuple[dict, Any]:
        """What ``test_step`` takes, and the graph's inputs; ``input_shape`` is not used."""
        data, inputs = super().create_input(imgs, None, data_preprocessor)
        if data_preprocessor is None:
            return data, inputs
        sizes = image_sizes(data['data_samples'], inputs)
        shape = get_input_shape(self.deploy_cfg)
        if is_dynamic_shape(self.deploy_cfg):
            # In a smaller example neighbouring levels could have one size, and
            # the graph would not hold for others.
            model = self.model_cfg.model
            least = 4 * max((model.get('rpn_head') or model.bbox_head).strides)
            shape = [max(least, side) for side in (inputs.size(3), inputs.size(2))]
        data['inputs'] = inputs = pad_to_shape(inputs, shape)
        return data, [inputs, sizes] if wants_image_sizes(self.deploy_cfg) else inputs


def image_sizes(data_samples: Sequence[Any], like: Tensor) -> Tensor:
    """(height, width) of each image without padding, shape (B, 2)."""
    sizes = [sample.metainfo['img_shape'][:2] for sample in data_samples]
    return torch.tensor(sizes, dtype=torch.float32, device=like.device)


def pad_to_shape(inputs: Tensor, input_shape: Sequence[int] | None) -> Tensor:
    """Pad images (B, 3, H, W) at the bottom and on the right with zeros to (width, height), if any.

    Raises:
        ValueError: If the images are larger.
    """
    if input_shape is None:
        return inputs
    width, height = input_shape
    rows, columns = height - inputs.size(2), width - inputs.size(3)
    if rows < 0 or columns < 0:
        raise ValueError(
            f'an image of {inputs.size(3)}x{inputs.size(2)} pixels (width x height, after '
            f"resizing and padding) does not fit into the model's static {width}x{height}: "
            'set a larger ir_config.input_shape, or take a dynamic deploy config'
        )
    return F.pad(inputs, (0, columns, 0, rows))
