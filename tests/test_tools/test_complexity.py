"""Counting parameters and multiply-adds."""

import pytest
import torch
from complexity import complexity, shapes_only, test_shape
from mmcv.ops import ModulatedDeformConv2dPack, modulated_deform_conv
from mmengine.config import Config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.paths import CONFIGS

FLAGSHIP = CONFIGS / 'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py'
SQUARE = CONFIGS / 'centernet2' / 'centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x+4x-st_coco.py'
test_shape.__test__ = False  # it is no test


def _count(layer, *shape):
    counter = FlopCounterMode(display=False)
    with torch.device('meta'):
        x = torch.empty(shape)
    with torch.no_grad(), shapes_only(), counter:
        layer.to('meta')(x)
    return counter.get_total_flops() // 2


def test_by_hand():
    cells = 6 * 8
    conv = nn.Conv2d(4, 10, 3, padding=1, groups=2)
    assert _count(conv, 1, 4, 6, 8) == cells * 10 * (4 // 2) * 9
    up = nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1, groups=4)
    assert _count(up, 1, 4, 6, 8) == cells * 4 * 16
    assert _count(nn.Linear(5, 7), 3, 5) == 3 * 5 * 7


def test_deformable_convolutions_count_with_their_offsets():
    layer = ModulatedDeformConv2dPack(4, 10, 3, padding=1)
    offsets = 3 * 9  # x, y and weight of each tap
    assert _count(layer, 1, 4, 6, 8) == 6 * 8 * 4 * 9 * (10 + offsets)


def test_deformable_convolutions_are_themselves_again():
    before = modulated_deform_conv.modulated_deform_conv2d
    with pytest.raises(RuntimeError), shapes_only():
        assert modulated_deform_conv.modulated_deform_conv2d is not before
        raise RuntimeError
    assert modulated_deform_conv.modulated_deform_conv2d is before


def test_input_is_that_of_the_config_s_tests():
    flagship, square = map(Config.fromfile, (FLAGSHIP, SQUARE))
    # 800 x 1067 and 1170 x 1560, padded to multiples of 32 and 128
    assert test_shape(flagship, (480, 640)) == (800, 1088)
    assert test_shape(square, (480, 640)) == (1280, 1664)
    flagship.test_dataloader.dataset.pipeline.pop(1)
    with pytest.raises(ValueError, match='must have one of'):
        test_shape(flagship, (480, 640))


def test_second_stage_counts_all_proposals():
    """Three stages of two shared layers and two predictors."""
    cfg = Config.fromfile(FLAGSHIP)
    all_of_them = complexity(cfg)
    cfg.model.test_cfg.rpn.max_per_img = 1
    one = complexity(cfg)
    assert one.parameters == all_of_them.parameters
    of_a_proposal = 3 * (256 * 49 * 1024 + 1024 * 1024 + 1024 * (81 + 4))
    assert all_of_them.multiply_adds - one.multiply_adds == 255 * of_a_proposal
