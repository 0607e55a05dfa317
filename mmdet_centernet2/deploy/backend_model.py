"""An exported detector that behaves like the detector it was made of."""

from typing import Any

import torch
from mmdeploy.codebase.mmdet.deploy import object_detection_model
from mmdeploy.utils import get_input_shape
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet_centernet2.runtime.detections import Detections, finish

from .metadata import wants_image_sizes
from .rewriters.detectors import IMAGE_SIZES
from .task import image_sizes, pad_to_shape

# private to its module, but the one place where `model_type` is looked up
BACKEND_MODELS = getattr(object_detection_model, '__BACKEND_MODEL')


@BACKEND_MODELS.register_module('centernet2_end2end')
class CenterNet2End2EndModel(object_detection_model.End2EndModel):
    """Feeds both inputs and finishes detections as the runtime does."""

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[DetDataSample],
        mode: str = 'predict',
        **kwargs: Any,
    ) -> list[DetDataSample]:
        """Set ``pred_instances`` of images (B, 3, H, W), in pixels of the originals."""
        padded = pad_to_shape(inputs, get_input_shape(self.deploy_cfg))
        feeds = {self.input_name: padded.contiguous()}
        if wants_image_sizes(self.deploy_cfg):
            feeds[IMAGE_SIZES] = image_sizes(data_samples, inputs)
        outputs = self.wrapper.output_to_list(self.wrapper(feeds))
        cfg = self.model_cfg.model.test_cfg.get('rcnn', {})
        for i, sample in enumerate(data_samples):
            dets, labels, *masks = (torch.as_tensor(out[i]).cpu().numpy() for out in outputs)
            found = finish(
                dets,
                labels,
                masks[0] if masks else None,
                sample.ori_shape[:2],
                sample.metainfo.get('scale_factor', (1, 1)),
                cfg.get('mask_thr_binary', 0.5),
            )
            sample.pred_instances = to_instances(found)
        return data_samples


def to_instances(found: Detections) -> InstanceData:
    """The same as tensors."""
    arrays = {key: value for key, value in vars(found).items() if value is not None}
    return InstanceData(**{key: torch.tensor(value) for key, value in arrays.items()})


def from_instances(found: InstanceData) -> Detections:
    """The same as arrays."""
    found = found.cpu().numpy()
    return Detections(found.bboxes, found.scores, found.labels, found.get('masks'))
