"""The learning rate of every recipe, step by step, is the original's."""

import math
from collections.abc import Iterable

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from mmdet_centernet2.engine.schedulers.lr_schedules import ClosedFormLR
from tests.paths import CONFIGS
from tests.test_configs.recipes import RECIPES, original_settings

#: Measured in the original: iteration -> learning rate.
MEASURED = {
    'CenterNet2_R50_1x': {
        0: 5e-6,
        1: 9.99875e-6,
        2000: 0.0100025,
        4000: 0.02,
        60000: 0.002,
        80000: 0.0002,
    },
    'CenterNet2_DLA-BiFPN-P5_640_16x': {
        0: 2e-5,
        2000: 0.0399978,
        4000: 0.0799756,
        180000: 0.04,
        359999: 1.5e-12,
    },
    'CenterNet-S4_DLA_8x': {0: 8e-5, 500: 0.0400278, 1000: 0.0799756},
    'CenterNet2_R2-101-DCN_896_4x': {0: 1e-5, 4000: 0.0399513, 90000: 0.02},
}
#: Six repeats of the 4x schedule from 0.01.
REPEATED = 'centernet2/centernet2_dla34_fcos-bifpn-p3_ms-24x_coco.py'
CYCLE = 360000


def law(settings: dict, i: int) -> float:
    """Learning rate at an iteration, from the original's settings.

    Source: detectron2's ``solver/lr_scheduler.py``.
    """

    def factor(i):
        if settings['SOLVER.LR_SCHEDULER_NAME'] == 'WarmupCosineLR':
            return (1 + math.cos(math.pi * i / settings['SOLVER.MAX_ITER'])) / 2
        return 0.1 ** sum(i >= step for step in settings['SOLVER.STEPS'])

    warmup = settings['SOLVER.WARMUP_ITERS']
    rate = settings['SOLVER.BASE_LR']
    if i >= warmup:
        return rate * factor(i)
    start = settings['SOLVER.WARMUP_FACTOR'] * factor(0)
    return rate * (start + (factor(warmup) - start) * i / warmup)


def settings_of_schedule(name: str) -> dict:
    """The original's settings with our deliberate differences."""
    recipe = RECIPES[name]
    differences = {k: d.ours for k, d in recipe.differences.items()}
    return {**original_settings(recipe.original), **differences}


def wanted_rates(name: str) -> dict:
    """Iterations around everything that happens, by the law."""
    settings = settings_of_schedule(name)
    last = settings['SOLVER.MAX_ITER'] - 1
    warmup = settings['SOLVER.WARMUP_ITERS']
    moments = {0, 1, warmup // 2, warmup - 1, warmup, warmup + 1, last // 2, last - 1, last}
    for step in settings['SOLVER.STEPS']:
        moments |= {step - 1, step}
    if name == REPEATED:
        one = {m for m in moments if m < CYCLE} | {CYCLE - 1}
        return {m + repeat * CYCLE: law(settings, m) for repeat in range(6) for m in one}
    return {m: law(settings, m) for m in moments if m <= last}


class Run:
    """A training as the schedulers see it, without the training.

    Args:
        name (str): Config.
    """

    def __init__(self, name: str) -> None:
        cfg = Config.fromfile(CONFIGS / name)
        optimizer = torch.optim.SGD(
            [nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr
        )
        self.group, self.iteration = optimizer.param_groups[0], 0
        self.schedulers = [
            PARAM_SCHEDULERS.build(dict(s), default_args=dict(optimizer=optimizer))
            for s in cfg.param_scheduler
        ]
        optimizer.step()

    def rates(self, iterations: Iterable[int]) -> dict[int, float]:
        """Learning rates at iterations."""
        found = {}
        for i in sorted(iterations):
            self.go_to(i)
            found[i] = self.group['lr']
        return found

    def go_to(self, i: int) -> None:
        """Step there, or resume one step before, where no step is lost."""
        if i > self.iteration and all(isinstance(s, ClosedFormLR) for s in self.schedulers):
            self.resume(i - 1)
        while self.iteration < i:
            for scheduler in self.schedulers:
                scheduler.step()
            self.iteration += 1

    def resume(self, i: int) -> None:
        """As from a checkpoint of iteration ``i``."""
        for scheduler in self.schedulers:
            state = dict(scheduler.state_dict(), last_step=i)
            scheduler.load_state_dict(state)
        self.iteration = i


@pytest.mark.parametrize('name', RECIPES)
def test_rates_follow_the_law(name):
    wanted = wanted_rates(name)
    assert Run(name).rates(wanted) == pytest.approx(wanted, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    'name', [name for name, recipe in RECIPES.items() if recipe.original in MEASURED]
)
def test_rates_are_those_measured_in_the_original(name):
    wanted = MEASURED[RECIPES[name].original]
    assert Run(name).rates(wanted) == pytest.approx(wanted, rel=2e-6, abs=3e-14)


def test_the_law_itself_gives_what_was_measured():
    for original, wanted in MEASURED.items():
        settings = original_settings(original)
        assert {i: law(settings, i) for i in wanted} == pytest.approx(wanted, rel=2e-6, abs=3e-14)
