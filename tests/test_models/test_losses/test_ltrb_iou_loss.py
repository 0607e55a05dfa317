"""Box loss against the slow reference, whose numbers test_reference.py checks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS

from tests.reference import losses
from tests.reference.cases import SETTINGS

REFERENCE = dict(giou=losses.giou_loss, iou=losses.iou_loss, linear_iou=losses.linear_iou_loss)
LTRB = st.tuples(*[st.floats(0, 40, width=32)] * 4)


@SETTINGS
@given(
    st.lists(
        st.tuples(LTRB, st.tuples(*[st.floats(0.125, 40, width=32)] * 4)), min_size=1, max_size=4
    ),
    st.sampled_from(sorted(REFERENCE)),
)
def test_loss_and_gradient(pairs, mode):
    pred = torch.tensor([p for p, _ in pairs], requires_grad=True)
    loss = MODELS.build(dict(type='LTRBIoULoss', mode=mode, loss_weight=2.0))
    found = loss(pred, torch.tensor([t for _, t in pairs]), torch.tensor(3.0))
    exact = torch.tensor([p for p, _ in pairs], dtype=torch.float64, requires_grad=True)
    wanted = 2 * sum(REFERENCE[mode](row, target) for row, (_, target) in zip(exact, pairs)) / 3
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4, abs=1e-5)
    found.backward()
    wanted.backward()
    assert pred.grad.flatten().tolist() == pytest.approx(
        exact.grad.flatten().tolist(), rel=1e-3, abs=1e-5
    )


def test_nothing_to_regress_keeps_a_graph():
    pred = torch.zeros(0, 4, requires_grad=True)
    loss = MODELS.build(dict(type='LTRBIoULoss'))(pred, torch.zeros(0, 4), torch.tensor(1.0))
    assert loss.item() == 0
    loss.backward()
    assert pred.grad.shape == (0, 4)


def test_unknown_mode():
    with pytest.raises(ValueError, match="got 'ciou'"):
        MODELS.build(dict(type='LTRBIoULoss', mode='ciou'))
