"""Every effective setting of the configs is that of the original."""
import ast
import json

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from tests.paths import CONFIGS, DATA
from tests.test_configs.original_settings import NOT_COMPARED, settings_of

ORIGINALS = json.loads((DATA / 'original_configs.json').read_text())
RECIPES = {
    'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py': 'CenterNet2_R50_1x',
}
# spec §1.5: learning rate at iterations
LEARNING_RATES = {
    'CenterNet2_R50_1x': {
        0: 5e-6,
        1: 9.99875e-6,
        2000: 0.0100025,
        4000: 0.02,
        59999: 0.02,
        60000: 0.002,
        80000: 0.0002,
        89999: 0.0002
    },
}


@pytest.fixture(scope='module', params=RECIPES)
def recipe(request):
    return Config.fromfile(CONFIGS / request.param), RECIPES[request.param]


def _same(ours, theirs):
    if isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(theirs, float):
        return ours == pytest.approx(theirs, rel=1e-12)
    return ours == theirs


def test_every_setting_is_the_original_one(recipe):
    cfg, original = recipe
    theirs = {
        key: ast.literal_eval(value)
        for key, value in ORIGINALS[original].items()
        if key not in NOT_COMPARED
    }
    ours = settings_of(cfg)
    assert set(ours) == set(theirs)
    differing = {
        key: (ours[key], theirs[key])
        for key in theirs if not _same(ours[key], theirs[key])
    }
    assert not differing


def _learning_rates(cfg, iterations):
    """Run the config's schedulers as the training loop does."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))],
                                lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [
        PARAM_SCHEDULERS.build(
            dict(s), default_args=dict(optimizer=optimizer))
        for s in cfg.param_scheduler
    ]
    found = {}
    optimizer.step()
    for i in range(cfg.train_cfg.max_iters):
        if i in iterations:
            found[i] = optimizer.param_groups[0]['lr']
        for scheduler in schedulers:
            scheduler.step()
    return found


def test_learning_rate_follows_the_original(recipe):
    cfg, original = recipe
    wanted = LEARNING_RATES[original]
    assert _learning_rates(cfg, wanted) == pytest.approx(wanted, rel=1e-6)


def test_optimizer_groups_and_clipping():
    """Norms do not decay, scales and biases do; gradients are clamped."""
    cfg = Config.fromfile(CONFIGS / next(iter(RECIPES)))
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
