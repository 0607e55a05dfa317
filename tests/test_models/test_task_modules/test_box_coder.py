"""The box coder of the second stage."""
from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import TASK_UTILS

from tests.reference import cascade
from tests.reference.cases import SETTINGS


def build(weights):
    return TASK_UTILS.build(
        dict(
            type='OneSidedDeltaXYWHBBoxCoder',
            target_means=[0.] * 4,
            target_stds=[1 / w for w in weights]))


SIZES = st.tuples(*[st.floats(1, 300, width=32)] * 2)
CORNERS = st.tuples(*[st.floats(-50, 300, width=32)] * 2)
BOXES = st.tuples(CORNERS, SIZES).map(lambda v: (v[0][0], v[0][1], v[0][0] + v[
    1][0], v[0][1] + v[1][1]))
WEIGHTS = st.sampled_from(cascade.WEIGHTS)


@SETTINGS
@given(BOXES, BOXES, WEIGHTS)
def test_encode(box, target, weights):
    found = build(weights).encode(torch.tensor([box]), torch.tensor([target]))
    assert found[0].tolist() == pytest.approx(
        cascade.encode(box, target, weights), rel=1e-4, abs=1e-2)


@SETTINGS
@given(BOXES,
       st.lists(st.floats(-20, 20, width=32), min_size=4, max_size=4),
       WEIGHTS)
def test_decode(box, deltas, weights):
    found = build(weights).decode(torch.tensor([box]), torch.tensor([deltas]))
    assert found[0].tolist() == pytest.approx(
        cascade.decode(box, deltas, weights), rel=1e-4, abs=2e-2)


def test_growth_is_limited_and_shrinkage_is_not():
    box = torch.tensor([[0., 0., 100., 100.]])
    width = [
        (lambda b: (b[0, 2] - b[0, 0]).item())(build((10, 10, 5, 5)).decode(
            box, torch.tensor([[0., 0., 5 * dw, 0.]])))
        for dw in (log(1000 / 16) - .1, log(1000 / 16), 8, -4, -6)
    ]
    assert width == pytest.approx([
        6250 * 2.718281828**-.1, 6250, 6250, 100 * 2.718281828**-4,
        100 * 2.718281828**-6
    ], rel=1e-3)
