"""Every effective setting of the configs is that of the original."""
from fnmatch import fnmatch

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from tests.paths import CONFIGS
from tests.test_configs.original_settings import settings_of
from tests.test_configs.recipes import (OWN_CONFIGS, RECIPES,
                                        original_settings, shipped_configs)
from tests.test_configs.without_effect import RULES, without_effect

FLAGSHIP = 'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py'


def _same(ours, theirs):
    if isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(theirs, float):
        return ours == pytest.approx(theirs, rel=1e-12)
    return ours == theirs


def test_every_config_has_a_recipe():
    assert shipped_configs() - OWN_CONFIGS == set(RECIPES)


def test_every_model_of_the_original_has_a_config():
    assert len({recipe.original for recipe in RECIPES.values()}) == 17


@pytest.mark.parametrize('name', RECIPES)
def test_every_setting_is_the_original_one(name):
    recipe = RECIPES[name]
    original = original_settings(recipe.original)
    silent = without_effect(original)
    theirs = {k: v for k, v in original.items() if k not in silent}
    ours = settings_of(Config.fromfile(CONFIGS / name))
    assert set(ours) == set(theirs)
    differing = {
        key: (ours[key], theirs[key])
        for key in theirs if not _same(ours[key], theirs[key])
    }
    wanted = {
        key: (difference.ours, theirs[key])
        for key, difference in recipe.differences.items()
    }
    assert differing == wanted


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.reason)
def test_no_rule_is_left_over(rule):
    """Each applies to some model, and each of its patterns hits a key."""
    originals = [original_settings(r.original) for r in RECIPES.values()]
    assert any(rule.applies(original) for original in originals)
    for pattern in rule.keys:
        assert any(fnmatch(key, pattern) for key in originals[0])


def test_a_drifted_config_is_noticed():
    """The comparison itself: one changed value is one difference."""
    cfg = Config.fromfile(CONFIGS / FLAGSHIP)
    before = settings_of(cfg)
    cfg.model.test_cfg.rcnn.nms.iou_threshold = 0.5
    after = settings_of(cfg)
    assert {k for k in before if before[k] != after[k]
            } == {'MODEL.ROI_HEADS.NMS_THRESH_TEST'}


def test_optimizer_groups_and_clipping():
    """Norms do not decay, scales and biases do; gradients are clamped."""
    cfg = Config.fromfile(CONFIGS / FLAGSHIP)
    cfg.model.backbone.init_cfg = None
    model = nn.ModuleDict(
        dict(
            backbone=MODELS.build(cfg.model.backbone),
            rpn_head=MODELS.build(cfg.model.rpn_head)))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(p): n for n, p in model.named_parameters()}
    decays = {
        names[id(p)]: group['weight_decay']
        for group in wrapper.optimizer.param_groups for p in group['params']
    }
    assert decays['rpn_head.scales.0.scale'] == 1e-4
    assert decays['rpn_head.reg_convs.0.conv.bias'] == 1e-4
    assert decays['rpn_head.reg_convs.0.gn.weight'] == 0
    assert decays['rpn_head.reg_convs.0.gn.bias'] == 0
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert all(n.startswith('backbone.') for n in frozen)
    assert 'backbone.layer1.0.conv1.weight' in frozen
    assert 'backbone.layer4.2.bn3.weight' in frozen
    assert 'backbone.layer2.0.conv1.weight' not in frozen

    bias = model['rpn_head'].conv_reg.bias
    before = bias.detach().clone()
    bias.grad = torch.tensor([5., -7., 0.25, 1.])
    wrapper.step()
    # the first step of SGD: lr * (clamped gradient + decay)
    step = torch.tensor([1., -1., 0.25, 1.]) + 1e-4 * before
    torch.testing.assert_close(before - bias.detach(), 0.02 * step)
