"""Construction, initial values and refinement of the box head."""

from math import log
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS, TASK_UTILS

from tests.reference import cascade
from tests.reference.cases import SETTINGS

from . import small


def build(**options):
    cfg = dict(
        type='CenterNet2BBoxHead',
        in_channels=16,
        fc_out_channels=256,
        roi_feat_size=7,
        num_classes=20,
        bbox_coder=dict(type='OneSidedDeltaXYWHBBoxCoder'),
    )
    head = MODELS.build({**cfg, **options})
    head.init_weights()
    return head


def test_tensors_of_the_original():
    """Shapes of the original's: background last, one box."""
    shapes = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
    assert shapes == {
        'shared_fcs.0.weight': (256, 16 * 49),
        'shared_fcs.0.bias': (256,),
        'shared_fcs.1.weight': (256, 256),
        'shared_fcs.1.bias': (256,),
        'fc_cls.weight': (21, 256),
        'fc_cls.bias': (21,),
        'fc_reg.weight': (4, 256),
        'fc_reg.bias': (4,),
    }


def test_initial_values():
    """Caffe2's Xavier, N(0, 0.01), N(0, 0.001), biases 0."""
    head = build()
    assert head.fc_cls.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert head.fc_reg.weight.std().item() == pytest.approx(0.001, rel=0.15)
    for linear, fan_in in zip(head.shared_fcs, (16 * 49, 256)):
        bound = (3 / fan_in) ** 0.5  # uniform, kaiming with a = 1 over fan_in
        assert linear.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert linear.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    for name, parameter in head.named_parameters():
        assert not name.endswith('bias') or not parameter.any()


def test_boxes_of_each_class_are_refused():
    with pytest.raises(ValueError, match='reg_class_agnostic=True'):
        build(reg_class_agnostic=False)


def test_refinement_clips_to_each_image_and_drops_only_empty_boxes():
    """Ground truth stays, images keep their order; zero deltas."""
    boxes = torch.tensor(
        [
            [10.0, 10, 50, 50],
            [-20, -20, 30, 30],
            [151, 0, 170, 20],
            [140, 90, 160, 128],
            [10, 120, 95, 140],
            [91, 100, 99, 110],
        ]
    )
    images = torch.tensor([0.0, 0, 0, 0, 1, 1])
    sampled = SimpleNamespace(
        rois=torch.cat([images[:, None], boxes], 1), counts=np.array([[3, 1], [0, 2]])
    )
    found = build().refine_bboxes(sampled, torch.zeros(6, 4), small.metas())
    assert [boxes.tolist() for boxes in found] == [
        [[10, 10, 50, 50], [0, 0, 30, 30], [140, 90, 150, 100]],
        [[10, 120, 90, 128]],
    ]


def coder(weights):
    return TASK_UTILS.build(
        dict(
            type='OneSidedDeltaXYWHBBoxCoder',
            target_means=[0.0] * 4,
            target_stds=[1 / w for w in weights],
        )
    )


SIZES = st.tuples(*[st.floats(1, 300, width=32)] * 2)
CORNERS = st.tuples(*[st.floats(-50, 300, width=32)] * 2)
BOXES = st.tuples(CORNERS, SIZES).map(
    lambda v: (v[0][0], v[0][1], v[0][0] + v[1][0], v[0][1] + v[1][1])
)
WEIGHTS = st.sampled_from(cascade.WEIGHTS)


@SETTINGS
@given(BOXES, BOXES, WEIGHTS)
def test_encode(box, target, weights):
    found = coder(weights).encode(torch.tensor([box]), torch.tensor([target]))
    assert found[0].tolist() == pytest.approx(
        cascade.encode(box, target, weights), rel=1e-4, abs=1e-2
    )


@SETTINGS
@given(BOXES, st.lists(st.floats(-20, 20, width=32), min_size=4, max_size=4), WEIGHTS)
def test_decode(box, deltas, weights):
    found = coder(weights).decode(torch.tensor([box]), torch.tensor([deltas]))
    assert found[0].tolist() == pytest.approx(
        cascade.decode(box, deltas, weights), rel=1e-4, abs=2e-2
    )


def test_growth_is_limited_and_shrinkage_is_not():
    box = torch.tensor([[0.0, 0.0, 100.0, 100.0]])
    width = [
        (lambda b: (b[0, 2] - b[0, 0]).item())(
            coder((10, 10, 5, 5)).decode(box, torch.tensor([[0.0, 0.0, 5 * dw, 0.0]]))
        )
        for dw in (log(1000 / 16) - 0.1, log(1000 / 16), 8, -4, -6)
    ]
    assert width == pytest.approx(
        [6250 * 2.718281828**-0.1, 6250, 6250, 100 * 2.718281828**-4, 100 * 2.718281828**-6],
        rel=1e-3,
    )
