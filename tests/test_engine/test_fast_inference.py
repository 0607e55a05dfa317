"""The fast switch against the plain model, for every kind of network."""

import copy
import gc

import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.models import HourglassNet
from mmdet.registry import HOOKS, MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import nn

from mmdet_centernet2.engine import speed_up
from mmdet_centernet2.engine.hooks import fast_inference
from mmdet_centernet2.engine.hooks.fast_inference import (
    FusedBlock,
    bare_detector,
    speed_up_as_configured,
)
from mmdet_centernet2.engine.optimizers import bf16
from tests import golden
from tests._tiny import tiny_config
from tests.paths import CONFIGS
from tests.test_models.test_golden import build

pytestmark = pytest.mark.slow

#: FPN and three stages; DLA, DCN and masks.
FAMILIES = ('CenterNet2_R50_1x', 'nuImages_CenterNet2_DLA_640_8x')
#: Norms beside their convolutions, DCN as last convolution, BiFPN.
RES2NET = 'centernet2/centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x_coco.py'
NORMS = nn.modules.batchnorm._BatchNorm


@pytest.fixture(autouse=True)
def _bf16_everywhere(monkeypatch):
    """CPUs without it give the same numbers, slowly."""
    monkeypatch.setattr(fast_inference, 'cpu_has_bf16', lambda: True)


def sample_of(image: torch.Tensor) -> DetDataSample:
    shape = tuple(image.shape[-2:])
    return DetDataSample(
        metainfo=dict(
            img_shape=golden.IMAGE_SHAPE,
            ori_shape=golden.IMAGE_SHAPE,
            batch_input_shape=shape,
            pad_shape=shape,
            scale_factor=(1.0, 1.0),
        )
    )


@torch.no_grad()
def outputs(model: nn.Module, image: torch.Tensor):
    """Maps of the dense head and detections."""
    head = getattr(model, 'rpn_head', None) or model.bbox_head
    heats, ltrbs = head(model.extract_feat(image))
    found = model.predict(image, [sample_of(image)])[0].pred_instances
    return [*heats, *ltrbs], found


def count_norms(model: nn.Module) -> int:
    return sum(isinstance(m, NORMS) for m in model.modules())


def unsettle_norms(model: nn.Module) -> None:
    """Let norms change something, and no residual branch be zero."""
    for module in model.modules():
        if isinstance(module, NORMS):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.0)


def deviation(maps, others) -> float:
    """Root mean square over the standard deviation, of the worst map."""
    return max(
        ((a.float() - b).square().mean().sqrt() / b.std()).item() for a, b in zip(maps, others)
    )


@pytest.mark.parametrize('name', FAMILIES)
def test_same_numbers(name):
    image = golden.golden_image(golden.load_golden(name))
    model = build(name)
    maps, found = outputs(model, image)
    half = speed_up(copy.deepcopy(model), 'bf16')
    num_norms = count_norms(model)
    speed_up(model)
    assert count_norms(model) < num_norms / 2
    assert any(isinstance(m, FusedBlock) for m in model.modules())

    fast_maps, fast = outputs(model, image)
    assert deviation(fast_maps, maps) < 2e-5
    assert len(found) == len(fast) > 50
    torch.testing.assert_close(fast.scores, found.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(fast.bboxes, found.bboxes, rtol=0, atol=2e-3)
    if 'masks' in found:
        assert (fast.masks != found.masks).float().mean() < 1e-4

    half_maps, found_half = outputs(half, image)
    assert half_maps[0].dtype == torch.bfloat16
    assert half_maps[-1].dtype == torch.float32  # distances
    assert 1e-4 < deviation(half_maps, maps) < 0.15
    assert found_half.bboxes.dtype == found_half.scores.dtype == torch.float32
    assert abs(len(found_half) - len(found)) < 10
    torch.testing.assert_close(found_half.scores[:20], found.scores[:20], rtol=0, atol=0.03)
    del model, half
    gc.collect()


@torch.no_grad()
def test_maps_of_res2net_dcn_and_bifpn():
    cfg = Config.fromfile(CONFIGS / RES2NET).model
    cfg.backbone.update(depth=50, init_cfg=None)
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='SingleStageDetector',
            backbone=cfg.backbone,
            neck=dict(cfg.neck, num_cells=1),
            bbox_head=cfg.rpn_head,
            test_cfg=cfg.test_cfg.rpn,
        )
    ).eval()
    unsettle_norms(model)
    for module in model.modules():
        if isinstance(module, ModulatedDeformConv2dPack):
            nn.init.normal_(module.conv_offset.weight, std=0.01)
    image = torch.randn(1, 3, 128, 256)
    maps = sum(model.bbox_head(model.extract_feat(image)), [])
    for mode, limit in (('exact', 2e-5), ('bf16', 0.15)):
        fast = speed_up(copy.deepcopy(model), mode)
        assert count_norms(fast) < count_norms(model)
        found = sum(fast.bbox_head(fast.extract_feat(image)), [])
        assert deviation(found, maps) < limit


@torch.no_grad()
def test_sums_overwrite_nothing_that_is_read_again():
    """Of an hourglass two blocks read the same map; in a ResNet's layer one does."""
    torch.manual_seed(0)
    model = nn.Module()
    model.backbone = HourglassNet(2, 1, (8, 8, 8), (2, 2, 2), 8)
    unsettle_norms(model)
    model.eval()
    image = torch.randn(1, 3, 64, 96)
    (plain,) = model.backbone(image)
    (fast,) = speed_up(copy.deepcopy(model)).backbone(image)
    torch.testing.assert_close(fast, plain, rtol=0, atol=2e-5 * plain.abs().max().item())
    assert {m.in_place for m in speed_up(model).modules() if isinstance(m, FusedBlock)} == {
        True,
        False,
    }


@torch.no_grad()
def test_no_boxes():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(4, 5, 1), nn.Flatten(), nn.Linear(20, 3))
    assert speed_up(model).backbone(torch.empty(0, 4, 2, 2)).shape == (0, 3)


@pytest.fixture(scope='module')
def tiny(tmp_path_factory) -> nn.Module:
    cfg = tiny_config(tmp_path_factory.mktemp('none'))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    unsettle_norms(model)
    return model.eval()


@torch.no_grad()
def test_half_precision_does_not_reach_the_boxes(tiny, monkeypatch):
    """Proposals, RoIs of all stages and class probabilities are FP32."""
    model, dtypes = speed_up(copy.deepcopy(tiny), 'bf16'), []
    roi_head = model.roi_head
    forward = roi_head._bbox_forward

    def watch(stage, x, rois):
        result = forward(stage, x, rois)
        assert x[0].dtype == torch.float32  # RoIs are pooled from
        dtypes.extend([rois.dtype, result['cls_score'].dtype, result['bbox_pred'].dtype])
        return result

    monkeypatch.setattr(roi_head, '_bbox_forward', watch)
    images = torch.randn(1, 3, 128, 160)
    assert model.extract_feat(images)[0].dtype == torch.bfloat16
    model.predict(images, [sample_of(torch.empty(1, 3, 128, 160))])
    assert dtypes == [torch.float32] * 9


def test_hook_only_touches_a_tested_model(tiny):
    class Runner:
        model, hooks = nn.Module(), []

    Runner.model.module = copy.deepcopy(tiny)  # as wrappers hold it
    hook = HOOKS.build(dict(type='FastInferenceHook'))
    before = Runner.model.module.backbone.conv1.weight.clone()
    for moment in ('before_train', 'before_val'):
        getattr(hook, moment)(Runner)
    detector = bare_detector(Runner.model)
    assert torch.equal(detector.backbone.conv1.weight, before)
    hook.before_test(Runner)
    assert not torch.equal(detector.backbone.conv1.weight, before)


def test_config_says_whether(tiny):
    model = copy.deepcopy(tiny)
    speed_up_as_configured(model, Config(dict(custom_hooks=[])))
    assert any(isinstance(m, NORMS) for m in model.modules())
    speed_up_as_configured(
        model,
        Config(
            dict(
                custom_hooks=[
                    dict(type='CheckInvalidLossHook'),
                    dict(type='FastInferenceHook', mode='bf16'),
                ]
            )
        ),
    )
    assert model.backbone.conv1.weight.dtype == torch.bfloat16


def test_exact_in_the_place_of_bf16_on_a_cpu_without(tiny, monkeypatch):
    said = []
    monkeypatch.setattr(bf16, 'print_log', lambda text, *_: said.append(text))
    monkeypatch.setattr(fast_inference, 'cpu_has_bf16', lambda: False)
    model = speed_up(copy.deepcopy(tiny), 'bf16')
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert count_norms(model) < count_norms(tiny)
    (text,) = said
    assert 'no bfloat16 arithmetic' in text and "takes 'exact'" in text


def test_unknown_mode(tiny):
    with pytest.raises(ValueError, match="'exact', 'bf16'.*'fp4'"):
        speed_up(tiny, 'fp4')
    with pytest.raises(ValueError, match="'exact', 'bf16'.*'fp4'"):
        HOOKS.build(dict(type='FastInferenceHook', mode='fp4'))
