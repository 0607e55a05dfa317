"""An exported detector that behaves like the detector it was made of."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdeploy.codebase.mmdet.deploy import object_detection_model
from mmdeploy.utils import get_input_shape
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from ..models.task_modules import rescale_and_clip
from .metadata import wants_image_sizes
from .rewriters.detectors import IMAGE_SIZES
from .task import image_sizes, pad_to_shape

# private to its module, but the one place where `model_type` is looked up
BACKEND_MODELS = getattr(object_detection_model, '__BACKEND_MODEL')


@BACKEND_MODELS.register_module('centernet2_end2end')
class CenterNet2End2EndModel(object_detection_model.End2EndModel):
    """Feeds both inputs and finishes detections as PyTorch does."""

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[DetDataSample],
        mode: str = 'predict',
        **kwargs: Any,
    ) -> list[DetDataSample]:
        """Set ``pred_instances`` of images (B, 3, H, W), in their pixels."""
        if mode != 'predict':
            raise ValueError(f'an exported model only predicts, got {mode!r}')
        shape = get_input_shape(self.deploy_cfg)
        feeds = {self.input_name: pad_to_shape(inputs, shape).contiguous()}
        if wants_image_sizes(self.deploy_cfg):
            feeds[IMAGE_SIZES] = image_sizes(data_samples, inputs)
        outputs = self.wrapper.output_to_list(self.wrapper(feeds))
        for i, sample in enumerate(data_samples):
            sample.pred_instances = self._finish(
                [torch.as_tensor(output[i]) for output in outputs], sample
            )
        return data_samples

    def _finish(self, outputs: Sequence[Tensor], sample: DetDataSample) -> InstanceData:
        """Detections of one image: ``dets, labels`` and maybe ``masks``."""
        present = outputs[0][:, 4] > 0
        dets, labels, *masks = (output[present] for output in outputs)
        results = InstanceData(bboxes=dets[:, :4], scores=dets[:, 4], labels=labels.long())
        if masks:
            results.masks = masks[0]
        meta = sample.metainfo
        results = rescale_and_clip(results, meta, 'scale_factor' in meta)
        if masks:
            results.masks = self._paste(results, meta['ori_shape'])
        return results

    def _paste(self, results: InstanceData, size: Sequence[int]) -> Tensor:
        """Masks of the whole image, bool, shape (n, height, width)."""
        height, width = size[:2]
        threshold = self.model_cfg.model.test_cfg.rcnn.mask_thr_binary
        canvas = torch.zeros((len(results), height, width), dtype=torch.bool)
        for i, (mask, box) in enumerate(zip(results.masks, results.bboxes)):
            part, where = _do_paste_mask(
                mask[None, None], box[None], height, width, skip_empty=True
            )
            canvas[(i, *where)] = part[0] >= threshold
        return canvas
