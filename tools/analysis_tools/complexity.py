"""Parameters and multiply-adds of a config's detector, without running it.

The model is built and applied on PyTorch's ``meta`` device, which knows shapes
and nothing else: no memory, no weights, and the largest model in seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.ops import modulated_deform_conv
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

#: Height and width in pixels of a common photograph of COCO.
PHOTOGRAPH = (480, 640)
RESIZERS = ('ResizeShortestEdge', 'EfficientDetResizeCrop', 'Resize')


class Complexity(NamedTuple):
    """What a detector costs.

    Multiply-adds are those of convolutions (deformable and transposed ones
    included) and matrix products for one image, with as many proposals and
    masks as the config allows. Norms, activations, resizing, the sampling of
    deformable convolutions and of RoIAlign, and NMS are not counted.
    """

    parameters: int  # frozen ones included
    multiply_adds: int
    input_shape: tuple[int, int]  # height, width in pixels, padding included


def complexity(cfg: Config, photograph: tuple[int, int] = PHOTOGRAPH) -> Complexity:
    """Count parameters and multiply-adds of a config.

    Args:
        cfg: Of a detector with a CenterNet head.
        photograph: Height and width in pixels of an image,
            which is resized and padded as the config's test data are.

    Raises:
        ValueError: If the config resizes its test data in an unknown way.
    """
    shape = test_shape(cfg, photograph)
    model_cfg = Config(dict(model=cfg.model)).model
    model_cfg.backbone.init_cfg = None
    with torch.device('meta'):
        model = MODELS.build(model_cfg).eval()
        image = torch.empty(1, 3, *shape)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), shapes_only(), counter:
        _apply(model, image)
    flops = counter.get_total_flops()  # a multiply-add is two of them
    return Complexity(sum(p.numel() for p in model.parameters()), flops // 2, shape)


def test_shape(cfg: Config, photograph: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the network input for an image, in pixels."""
    pipeline = cfg.test_dataloader.dataset.pipeline
    resizers = [t for t in pipeline if t['type'] in RESIZERS]
    if len(resizers) != 1:
        raise ValueError(
            f'the test pipeline must have one of {RESIZERS}, found {[t["type"] for t in resizers]}'
        )
    blank = dict(img=np.zeros((*photograph, 3), np.uint8), img_shape=photograph)
    resized = TRANSFORMS.build(resizers[0])(blank)['img_shape'][:2]
    divisor = cfg.model.data_preprocessor.pad_size_divisor
    return tuple(-(-side // divisor) * divisor for side in resized)


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Let deformable convolutions be plain ones, of the same cost."""

    def plain(x: Tensor, offset: Tensor, mask: Tensor, *args: Any) -> Tensor:
        return F.conv2d(x, *args[:-1])  # without the groups of offsets

    with mock.patch.object(modulated_deform_conv, 'modulated_deform_conv2d', plain):
        yield


def _apply(model: nn.Module, image: Tensor) -> None:
    """Do all that depends on shapes alone, heads with what they may get."""
    features = model.extract_feat(image)
    if not getattr(model, 'with_rpn', False):
        model.bbox_head(features)
        return
    model.rpn_head(features)
    roi_head, test_cfg = model.roi_head, model.test_cfg
    heads = roi_head.bbox_head
    for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
        head(image.new_empty(test_cfg.rpn.max_per_img, *_roi_shape(roi_head.bbox_roi_extractor)))
    if roi_head.with_mask:
        roi_head.mask_head(
            image.new_empty(test_cfg.rcnn.max_per_img, *_roi_shape(roi_head.mask_roi_extractor))
        )


def _roi_shape(extractor: nn.Module) -> tuple[int, int, int]:
    """Channels, height and width of a pooled RoI."""
    if isinstance(extractor, nn.ModuleList):
        extractor = extractor[0]
    return (extractor.out_channels, *extractor.roi_layers[0].output_size)
