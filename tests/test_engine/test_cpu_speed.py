"""Faster on a CPU, but the same numbers."""

import copy

import pytest
import torch
from mmcv.cnn import build_conv_layer
from mmcv.ops import RoIAlign
from mmdet.models.backbones import MobileNetV2
from mmdet.models.necks import FPN
from torch import nn

from mmdet_centernet2.engine.hooks.cpu_speed import (
    CPUSpeedHook,
    keep_freed_memory,
    use_channels_last,
)


class _Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = MobileNetV2(out_indices=(2, 4))
        self.neck = FPN([32, 96], 16, num_outs=2)
        self.pool = RoIAlign(7, 1 / 8, 1)

    def forward(self, x):
        return self.neck(self.backbone(x))


def test_features_gradients_and_pooled_values_stay():
    torch.manual_seed(0)
    plain = _Detector()
    plain.backbone.eval()
    fast = copy.deepcopy(plain)
    use_channels_last(fast)
    image = torch.randn(1, 3, 96, 64)
    rois = torch.tensor([[0.0, 8, 8, 50, 70], [0, 0, 0, 20, 16]])
    assert not fast(image)[0].is_contiguous()
    outputs = []
    for model in (plain, fast):
        features = model(image)
        pooled = model.pool(features[0], rois)
        pooled.square().sum().backward()
        outputs.append([*features, pooled, model.backbone.conv1.conv.weight.grad])
    for ours, theirs in zip(*outputs):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', ['DCNv2', 'DCN', 'ExactDeformConv'])
def test_deformable_convolutions_stay_right(kind):
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(3, 8, 3), build_conv_layer(dict(type=kind), 8, 4, 3), nn.Conv2d(4, 4, 3)
    )
    nn.init.normal_(plain[1].conv_offset.weight, std=0.3)
    fast = copy.deepcopy(plain)
    use_channels_last(fast)
    image = torch.randn(2, 3, 16, 14)
    assert not fast[0](image).is_contiguous()
    results = []
    for model in (plain, fast):
        out = model(image)
        grads = torch.autograd.grad(out.square().sum(), model.parameters())
        results.append([out, *grads])
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_keeping_memory_says_whether_it_worked():
    assert keep_freed_memory() in (True, False)
    torch.randn(1000, 1000) @ torch.randn(1000, 1000)


def test_the_hook_can_be_applied_again_and_again():
    model = _Detector()
    for _ in range(3):
        CPUSpeedHook().apply(model)
    assert len(model.pool._forward_pre_hooks) == 1
    image = torch.randn(1, 3, 96, 64)
    assert not model(image)[0].is_contiguous()
