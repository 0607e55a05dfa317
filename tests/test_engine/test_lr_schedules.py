"""Schedules in closed form: stepping, resuming, parameter groups."""

import copy
import math

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

COSINE = dict(type='WarmupCosineLR', max_iters=40, warmup_iters=8, warmup_factor=0.1)
STEPS = dict(
    type='RepeatedMultiStepLR',
    cycle_iters=20,
    milestones=[12, 16],
    gamma=0.1,
    warmup_iters=4,
    warmup_factor=0.25,
)


def optimizer_of(*rates):
    groups = [dict(params=[nn.Parameter(torch.zeros(1))], lr=rate) for rate in rates]
    return torch.optim.SGD(groups, lr=1.0)


def build(cfg, optimizer):
    scheduler = PARAM_SCHEDULERS.build(copy.deepcopy(cfg), default_args=dict(optimizer=optimizer))
    getattr(optimizer, 'optimizer', optimizer).step()
    return scheduler


def run(scheduler, optimizer, iterations):
    """Rates of each group while stepping."""
    rates = []
    for _ in range(iterations):
        rates.append([group['lr'] for group in optimizer.param_groups])
        scheduler.step()
    return rates


def test_cosine_over_the_whole_run():
    optimizer = optimizer_of(2.0)
    rates = [r for (r,) in run(build(COSINE, optimizer), optimizer, 40)]

    def cosine(i):
        return 1 + math.cos(math.pi * i / 40)  # twice the factor: lr is 2

    assert rates[8:] == pytest.approx([cosine(i) for i in range(8, 40)])
    # a straight line to the cosine's own value, not to the base rate
    assert rates[0] == pytest.approx(0.1 * 2)
    steps = [b - a for a, b in zip(rates[:8], rates[1:9])]
    assert steps == pytest.approx([(cosine(8) - 0.2) / 8] * 8)


def test_every_repeat_is_the_same():
    optimizer = optimizer_of(1.0)
    rates = [r for (r,) in run(build(STEPS, optimizer), optimizer, 60)]
    one = [0.25, 0.4375, 0.625, 0.8125] + 8 * [1.0] + 4 * [0.1] + 4 * [0.01]
    assert rates == pytest.approx(3 * one)


@pytest.mark.parametrize('cfg', [COSINE, STEPS], ids=lambda c: c['type'])
def test_groups_keep_their_ratio(cfg):
    optimizer = optimizer_of(1.0, 0.1, 3.0)
    for first, second, third in run(build(cfg, optimizer), optimizer, 30):
        assert (second, third) == pytest.approx((0.1 * first, 3 * first))


@pytest.mark.parametrize('cfg', [COSINE, STEPS], ids=lambda c: c['type'])
@pytest.mark.parametrize('stop', [3, 8, 15, 21])
def test_resuming_goes_on_where_it_stopped(cfg, stop):
    """As mmengine does: a new scheduler, then both states are loaded."""
    optimizer = optimizer_of(1.0, 0.5)
    whole = run(build(cfg, optimizer), optimizer, 35)

    optimizer = optimizer_of(1.0, 0.5)
    scheduler = build(cfg, optimizer)
    run(scheduler, optimizer, stop)
    states = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))

    optimizer = optimizer_of(1.0, 0.5)
    scheduler = build(cfg, optimizer)
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    rest = run(scheduler, optimizer, 35 - stop)
    assert rest == [pytest.approx(r) for r in whole[stop:]]


def test_an_optim_wrapper_is_scheduled_too():
    wrapper = OptimWrapper(optimizer_of(2.0))
    scheduler = build(COSINE, wrapper)
    assert run(scheduler, wrapper, 2)[0] == pytest.approx([0.2])


def test_epochs_are_refused():
    with pytest.raises(ValueError, match='by_epoch=False'):
        build(dict(COSINE, by_epoch=True), optimizer_of(1.0))
