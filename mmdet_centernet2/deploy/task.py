"""mmdeploy's task processor, with images as the model's own tests see them."""
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
import torch.nn.functional as F
from mmdeploy.codebase.mmdet.deploy.object_detection import (MMDET_TASK,
                                                             ObjectDetection)
from mmdeploy.utils import Task, get_input_shape, is_dynamic_shape
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from .metadata import build_metadata, test_pipeline, wants_image_sizes


@MMDET_TASK.register_module(Task.OBJECT_DETECTION.value, force=True)
class CenterNet2Detection(ObjectDetection):
    """Object detection, with the unpadded image sizes as a second input.

    Against mmdeploy's: a static shape does not distort images. They are
    resized as in the model's own tests and padded to that shape.

    Args:
        model_cfg (Config): Of the model.
        deploy_cfg (Config): Of the export; ``codebase_config`` may say
            ``image_size_input=False`` for runtimes that can feed one tensor
            only.
        device (str): Name of the device.
    """

    def __init__(self, model_cfg: Config, deploy_cfg: Config,
                 device: str) -> None:
        super().__init__(model_cfg, deploy_cfg, device)
        if 'test_pipeline' not in self.model_cfg:
            self.model_cfg.test_pipeline = test_pipeline(self.model_cfg)

    def build_pytorch_model(self,
                            model_checkpoint: Optional[str] = None,
                            cfg_options: Optional[Dict] = None,
                            **kwargs: Any) -> nn.Module:
        """Build the model; it carries what its file will say about itself."""
        model = super().build_pytorch_model(model_checkpoint, cfg_options,
                                            **kwargs)
        model.deploy_metadata = build_metadata(self.model_cfg,
                                               self.deploy_cfg)
        model.deploy_half_features = self.deploy_cfg.codebase_config.get(
            'half_features', False)
        return model

    def create_input(
        self,
        imgs: Union[str, np.ndarray, Sequence],
        input_shape: Optional[Sequence[int]] = None,
        data_preprocessor: Optional[BaseDataPreprocessor] = None
    ) -> Tuple[Dict, Union[Tensor, List[Tensor]]]:
        """Prepare images.

        Args:
            imgs (str | ndarray | list): One or several images.
            input_shape (Sequence[int], optional): Not used: images keep
                their proportions, and the shape is in the deploy config.
            data_preprocessor (BaseDataPreprocessor, optional): Of the model;
                with it the tensors are what the graph takes.

        Returns:
            tuple: What the model's ``test_step`` takes, and the inputs of
            the graph.
        """
        data, inputs = super().create_input(imgs, None, data_preprocessor)
        if data_preprocessor is None:
            return data, inputs
        sizes = image_sizes(data['data_samples'], inputs)
        inputs = self._pad(inputs)
        data['inputs'] = inputs
        if not wants_image_sizes(self.deploy_cfg):
            return data, inputs
        return data, [inputs, sizes]

    def _pad(self, inputs: Tensor) -> Tensor:
        """To the static shape; a dynamic example must not be too small.

        On a small one neighbouring levels may have the same size, and the
        graph would not hold for others.
        """
        if not is_dynamic_shape(self.deploy_cfg):
            return pad_to_shape(inputs, get_input_shape(self.deploy_cfg))
        head = self.model_cfg.model
        head = head.get('rpn_head') or head.bbox_head
        least = 4 * max(head.strides)
        return pad_to_shape(inputs, [
            max(least, int(inputs.size(3))),
            max(least, int(inputs.size(2)))
        ])


def image_sizes(data_samples: Sequence[Any], like: Tensor) -> Tensor:
    """(height, width) of each image without padding, shape (B, 2)."""
    return torch.tensor(
        [sample.metainfo['img_shape'][:2] for sample in data_samples],
        dtype=torch.float32,
        device=like.device)


def pad_to_shape(inputs: Tensor,
                 input_shape: Optional[Sequence[int]]) -> Tensor:
    """Pad images below and to the right with zeros.

    Args:
        inputs (Tensor): Shape (B, 3, H, W).
        input_shape (Sequence[int], optional): (width, height); None leaves
            them alone.

    Raises:
        ValueError: If they are larger.
    """
    if input_shape is None:
        return inputs
    width, height = input_shape
    rows, columns = height - inputs.size(2), width - inputs.size(3)
    if rows < 0 or columns < 0:
        raise ValueError(
            f'an image of {inputs.size(3)}x{inputs.size(2)} pixels (width x '
            'height, after resizing and padding) does not fit into the '
            f'model\'s static {width}x{height}: export with a larger '
            'ir_config.input_shape, or with a dynamic deploy config')
    return F.pad(inputs, (0, columns, 0, rows))
