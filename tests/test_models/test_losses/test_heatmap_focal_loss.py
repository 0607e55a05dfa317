"""Heat-map loss against the slow reference."""
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS

from tests.reference.cases import SETTINGS
from tests.reference.losses import heatmap_losses

LOGITS = [-4., -1., 0., 1.5, 3.]
HEATS = [0., .3, 1., .8, 0.]


def build(**options):
    return MODELS.build(dict(type='HeatmapFocalLoss', **options))


def column(values, grad: bool = False):
    return torch.tensor([[v] for v in values], requires_grad=grad)


def rows(values):
    return torch.tensor(values, dtype=torch.long)


@pytest.mark.parametrize('ignore, wanted', [
    (-1., (.0449974, 2.0801599)),
    (.85, (.0449974, .0054493)),
])
def test_numbers_of_the_spec(ignore, wanted):
    found = build(ignore_high_fp=ignore)(
        column(LOGITS), column(HEATS), rows([2, 3]), rows([0, 0]),
        torch.tensor(1.))
    assert [v.item() for v in found] == pytest.approx(wanted, abs=6e-8,
                                                      rel=1e-6)


@st.composite
def cells(draw):
    """Logits, heats, positives (repeated, too) and options of the loss."""
    size = draw(st.integers(1, 8))
    logit = st.floats(-12, 12, width=32)
    heat = st.one_of(st.just(0.), st.just(1.), st.floats(0, 1, width=32))
    return (draw(st.lists(logit, min_size=size, max_size=size)),
            draw(st.lists(heat, min_size=size, max_size=size)),
            draw(st.lists(st.integers(0, size - 1), max_size=6)),
            draw(st.sampled_from([-1., .85])),
            draw(st.sampled_from([-1., .25, .5])))


@SETTINGS
@given(cells())
def test_losses_and_gradients(case):
    logits, heats, positives, ignore, alpha = case
    x = column(logits, grad=True)
    found = build(ignore_high_fp=ignore, alpha=alpha)(
        x, column(heats), rows(positives), rows([0] * len(positives)),
        torch.tensor(4.))
    leaves = [
        torch.tensor(v, dtype=torch.float64, requires_grad=True)
        for v in logits
    ]
    wanted = heatmap_losses(leaves, heats, positives, ignore, alpha)
    for a, b in zip(found, wanted):
        assert a.item() == pytest.approx(b.item() / 4, rel=1e-4, abs=1e-7)
    (found[0] + 3 * found[1]).backward()
    ((wanted[0] + 3 * wanted[1]) / 4).backward()
    assert x.grad[:, 0].tolist() == pytest.approx(
        [leaf.grad.item() for leaf in leaves], rel=2e-3, abs=1e-6)


@pytest.mark.parametrize('threshold, logit, ignored', [
    (.85, 1.73, False),  # .8494
    (.85, 1.74, True),  # .8507
    (.5, 0., True),  # .5: the threshold itself
    (-1., 9., False),
])
def test_which_false_positives_are_ignored(threshold, logit, ignored):
    _, neg = build(ignore_high_fp=threshold)(
        column([logit]), column([0.]), rows([]), rows([]), torch.tensor(1.))
    assert (neg.item() == 0) is ignored


def test_weights_multiply_after_alpha():
    args = (column(LOGITS), column(HEATS), rows([2, 3]), rows([0, 0]),
            torch.tensor(1.))
    pos, neg = build(alpha=-1)(*args)
    weighted = build(pos_weight=.5, neg_weight=.5)(*args)
    assert [v.item() for v in weighted] == pytest.approx(
        [.125 * pos.item(), .375 * neg.item()])


def test_positives_of_several_classes_read_their_own_channel():
    logits = torch.tensor([[0., 2.], [1., -1.]])
    heats = torch.zeros(2, 2)
    pos, _ = build()(logits, heats, rows([0, 1]), rows([1, 0]),
                     torch.tensor(1.))
    wanted, _ = heatmap_losses([2., 1.], [0, 0], [0, 1])
    assert pos.item() == pytest.approx(wanted.item())


def test_logits_are_left_alone():
    """The original works in place (Q8)."""
    x = column(LOGITS)
    build()(x, column(HEATS), rows([2]), rows([0]), torch.tensor(1.))
    assert x[:, 0].tolist() == LOGITS


def test_half_precision_is_computed_in_full():
    x = column(LOGITS).half()
    pos, neg = build()(x, column(HEATS), rows([2, 3]), rows([0, 0]),
                       torch.tensor(1.))
    assert pos.dtype == neg.dtype == torch.float32
    assert neg.item() == pytest.approx(2.0801599, rel=1e-6)
