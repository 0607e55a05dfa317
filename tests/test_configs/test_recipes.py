"""Every effective setting of the configs is that of the original."""

import functools
from fnmatch import fnmatch

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from tests.paths import CONFIGS
from tests.test_configs.original_settings import settings_of
from tests.test_configs.recipes import OWN_CONFIGS, RECIPES, original_settings, shipped_configs
from tests.test_configs.without_effect import rules, without_effect

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
        key: (ours[key], theirs[key]) for key in theirs if not _same(ours[key], theirs[key])
    }
    wanted = {key: (difference.ours, theirs[key]) for key, difference in recipe.differences.items()}
    assert differing == wanted


def test_no_rule_is_left_over():
    """Each applies to some model, and each of its patterns hits a key."""
    originals = [original_settings(r.original) for r in RECIPES.values()]
    for keys in rules(originals[0]):
        assert any(rules(original)[keys] for original in originals), keys
        for pattern in keys.split():
            assert any(fnmatch(key, pattern) for key in originals[0]), pattern


def test_a_drifted_config_is_noticed():
    """The comparison itself: one changed value is one difference."""
    cfg = Config.fromfile(CONFIGS / FLAGSHIP)
    before = settings_of(cfg)
    cfg.model.test_cfg.rcnn.nms.iou_threshold = 0.5
    after = settings_of(cfg)
    assert {k for k in before if before[k] != after[k]} == {'MODEL.ROI_HEADS.NMS_THRESH_TEST'}


NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)


@functools.cache
def _config_and_model(name):
    """A config and its model, as shapes only."""
    cfg = Config.fromfile(CONFIGS / name)
    cfg.model.backbone.init_cfg = None
    with torch.device('meta'):
        return cfg, MODELS.build(cfg.model)


@pytest.mark.parametrize('name', RECIPES)
def test_norms_do_not_decay_everything_else_does(name):
    """Scales, biases and fusion weights included; one rate for all."""
    cfg, model = _config_and_model(name)
    of_norms = {id(p) for m in model.modules() if isinstance(m, NORMS) for p in m.parameters()}
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    seen = 0
    for group in wrapper.optimizer.param_groups:
        assert group['lr'] == cfg.optim_wrapper.optimizer.lr
        assert group['momentum'] == 0.9 and not group['nesterov']
        for p in group['params']:
            assert group['weight_decay'] == (0 if id(p) in of_norms else 1e-4)
            seen += 1
    assert of_norms and seen == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize('name', RECIPES)
def test_what_is_frozen(name):
    """Of ResNets the norms and the first two stages, of a DLA nothing.

    But for parameters that no output depends on, and the offsets'
    biases, which the original does not have.
    """
    cfg, model = _config_and_model(name)
    model.train()
    norms = [m for m in model.backbone.modules() if isinstance(m, NORMS)]
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert all(n.startswith('backbone.') for n in frozen)
    if cfg.model.backbone.type == 'DLA':
        assert all(m.training for m in norms)
        assert frozen and all('.project.' in n for n in frozen)
        return
    assert norms and not any(m.training for m in norms)
    for n, p in model.backbone.named_parameters():
        early = n.startswith(('conv1.', 'bn1.', 'stem.', 'layer1.'))
        norm = any(p is q for m in norms for q in m.parameters())
        absent = cfg.model.backbone.type == 'CaffeRes2Net' and n.endswith('conv_offset.bias')
        assert p.requires_grad != (early or norm or absent), n


def test_gradients_are_clamped_one_by_one():
    """The first step of SGD: lr * (clamped gradient + decay)."""
    cfg = Config.fromfile(CONFIGS / FLAGSHIP)
    layer = nn.Linear(4, 4)
    wrapper = build_optim_wrapper(layer, cfg.optim_wrapper)
    before = layer.bias.detach().clone()
    layer.bias.grad = torch.tensor([5.0, -7.0, 0.25, 1.0])
    wrapper.step()
    step = torch.tensor([1.0, -1.0, 0.25, 1.0]) + 1e-4 * before
    torch.testing.assert_close(before - layer.bias.detach(), 0.02 * step)
