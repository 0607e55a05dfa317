"""Parameters of equal options share a group, and are updated as without it."""

import copy

import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

CFG = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-2),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'2': dict(lr_mult=0.5)}),
    clip_grad=dict(type='value', clip_value=1.0),
)


def test_the_same_updates_from_three_groups():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 3)
    )
    model[3].bias.requires_grad_(False)
    images = torch.rand(2, 3, 9, 9)
    trained = []
    for constructor in ('DefaultOptimWrapperConstructor', 'GroupedOptimWrapperConstructor'):
        copied = copy.deepcopy(model)
        wrapper = build_optim_wrapper(copied, dict(CFG, constructor=constructor))
        for _ in range(3):
            wrapper.update_params(copied(images).square().mean())
        trained.append(copied.state_dict())
    groups = wrapper.optimizer.param_groups
    assert [len(group['params']) for group in groups] == [3, 2, 2]
    assert [(group['lr'], group['weight_decay']) for group in groups] == [
        (0.1, 0.01),
        (0.1, 0.0),
        (0.05, 0.01),
    ]
    for name, value in trained[0].items():
        assert torch.equal(value, trained[1][name]), name
    assert not torch.equal(trained[0]['0.weight'], model[0].weight)
