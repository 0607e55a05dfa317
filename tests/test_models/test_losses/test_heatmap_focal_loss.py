"""Heat-map loss against the slow reference, whose numbers test_reference.py checks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS

from mmdet_centernet2.models.losses import heatmap_focal_loss
from tests.reference.cases import SETTINGS
from tests.reference.dense import dense_heatmap_loss
from tests.reference.losses import heatmap_losses
from tests.test_models.operators import Operators

LOGITS = [-4.0, -1.0, 0.0, 1.5, 3.0]
HEATS = [0.0, 0.3, 1.0, 0.8, 0.0]


def build(**options):
    return MODELS.build(dict(type='HeatmapFocalLoss', **options))


def row_map(values, grad: bool = False):
    """One map of one class and one line."""
    return torch.tensor([[[values]]], requires_grad=grad)


def inds(values):
    return torch.tensor(values, dtype=torch.long)


def heat(values):
    """Heat of all cells, as the loss takes it."""
    return torch.arange(len(values)), torch.tensor(values)


@st.composite
def cells(draw):
    """Logits, heats, positives (repeated, too) and options of the loss."""
    size = draw(st.integers(1, 8))
    logit = st.floats(-12, 12, width=32)
    heat = st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1, width=32))
    return (
        draw(st.lists(logit, min_size=size, max_size=size)),
        draw(st.lists(heat, min_size=size, max_size=size)),
        draw(st.lists(st.integers(0, size - 1), max_size=6)),
        draw(st.sampled_from([-1.0, 0.85])),
        draw(st.sampled_from([-1.0, 0.25, 0.5])),
    )


@pytest.mark.parametrize('block', [3, 2**20])
def test_losses_and_gradients(block, monkeypatch):
    """Maps of any size as one block, and cut into blocks of three cells."""
    monkeypatch.setattr(heatmap_focal_loss, 'CPU_BLOCK', block)

    @SETTINGS
    @given(cells())
    def check(case):
        logits, heats, positives, ignore, alpha = case
        x = row_map(logits, grad=True)
        where, values = heat(heats)
        # Lower heat of another object, and what stands for nothing
        where = torch.cat([where, where, inds([-1])])
        values = torch.cat([values * 0.7, values, torch.ones(1)])
        found = build(ignore_high_fp=ignore, alpha=alpha)(
            [x], where, values, inds([*positives, -1]), torch.tensor(4.0)
        )
        leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in logits]
        wanted = heatmap_losses(leaves, heats, positives, ignore, alpha)
        for a, b in zip(found, wanted):
            assert a.item() == pytest.approx(b.item() / 4, rel=1e-4, abs=1e-7)
        (found[0] + 3 * found[1]).backward()
        ((wanted[0] + 3 * wanted[1]) / 4).backward()
        assert x.grad.flatten().tolist() == pytest.approx(
            [leaf.grad.item() for leaf in leaves], rel=2e-3, abs=1e-6
        )

    check()


@pytest.mark.parametrize(
    'threshold, logit, ignored',
    [
        (0.85, 1.73, False),  # .8494
        (0.85, 1.74, True),  # .8507
        (0.5, 0.0, True),  # .5: the threshold itself
        (-1.0, 9.0, False),
    ],
)
def test_which_false_positives_are_ignored(threshold, logit, ignored):
    _, neg = build(ignore_high_fp=threshold)(
        [row_map([logit])], *heat([0.0]), inds([]), torch.tensor(1.0)
    )
    assert (neg.item() == 0) is ignored


def test_weights_multiply_after_alpha():
    args = ([row_map(LOGITS)], *heat(HEATS), inds([2, 3]), torch.tensor(1.0))
    pos, neg = build(alpha=-1)(*args)
    weighted = build(pos_weight=0.5, neg_weight=0.5)(*args)
    assert [v.item() for v in weighted] == pytest.approx([0.125 * pos.item(), 0.375 * neg.item()])


def test_logits_are_left_alone():
    """The original changes them; see docs/differences.md, part B."""
    x = row_map(LOGITS, grad=True)
    sum(build()([x], *heat(HEATS), inds([2]), torch.tensor(1.0))).backward()
    assert x.flatten().tolist() == LOGITS


def test_confident_peaks_leave_no_trace_in_a_small_sum():
    """Terms of 9.2 at the peaks, of 1e-12 elsewhere: nothing may cancel."""
    x = torch.full((1, 1, 100, 100), -20.0)
    peaks = torch.arange(0, 10000, 7)
    x.view(-1)[peaks] = 20.0
    x.requires_grad_()
    _, neg = build(alpha=-1)([x], peaks, torch.ones(len(peaks)), inds([]), torch.tensor(1.0))
    (wanted,) = {  # of one cell, all are alike
        v.item()
        for v in build(alpha=-1)(
            [torch.full((1, 1, 1, 1), -20.0)], *heat([]), inds([]), torch.tensor(1.0)
        )[1:]
    }
    assert neg.item() == pytest.approx((10000 - len(peaks)) * wanted, rel=1e-5)


def scene(num_classes: int, dtype=torch.float32):
    """Two levels of two images, and what the loss takes beside them."""
    maps = [
        torch.randn(2, num_classes, *size).to(dtype).requires_grad_() for size in ((5, 7), (3, 4))
    ]
    total = sum(level.numel() for level in maps)
    where = torch.randint(total, (total // 10,))
    return (maps, where, torch.rand(len(where)), torch.randint(total, (20,)), torch.tensor(3.0))


def dense_loss(maps, where, values, positives, avg_factor, **options):
    """The dense loss on the maps laid end to end."""
    flat = torch.cat([level.flatten() for level in maps])[:, None]
    heatmap = torch.zeros(len(flat)).scatter_reduce_(0, where, values, 'amax')
    return dense_heatmap_loss(
        flat, heatmap[:, None], positives, torch.zeros_like(positives), avg_factor, **options
    )


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('num_classes', [1, 80, 1203])
def test_dense_loss(num_classes, channels_last):
    options = dict(ignore_high_fp=0.85, pos_weight=0.5, neg_weight=0.5)
    maps, *rest = scene(num_classes)
    wanted = dense_loss(maps, *rest, **options)
    sum(wanted).backward()
    expected = [level.grad for level in maps]
    if channels_last:
        maps = [
            level.detach().to(memory_format=torch.channels_last).requires_grad_() for level in maps
        ]
    for level in maps:
        level.grad = None
    found = build(**options)(maps, *rest)
    assert [v.item() for v in found] == pytest.approx([v.item() for v in wanted], rel=1e-5)
    sum(found).backward()
    for level, grad in zip(maps, expected):
        assert torch.allclose(level.grad, grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('ignore', [-1.0, 0.85])
def test_gradient_is_that_of_finite_differences(ignore):
    """In FP64, with clamped cells and positives listed twice."""
    maps, where, values, positives, avg_factor = scene(3, torch.float64)
    with torch.no_grad():
        for level in maps:
            level[0, 0, 0, :2] = torch.tensor([-11.0, 11.0])
    first = torch.tensor([0, 1])  # clamped positives
    positives = torch.cat([positives, positives[:4], first])
    loss = build(ignore_high_fp=ignore)
    assert torch.autograd.gradcheck(
        lambda *maps: loss(maps, where, values, positives, avg_factor), maps, eps=1e-7, atol=1e-6
    )


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_full(dtype):
    maps, *rest = scene(80, dtype)
    full = [level.detach().float().requires_grad_() for level in maps]
    wanted = build()(full, *rest)
    with torch.autocast('cpu', torch.bfloat16):
        found = build()(maps, *rest)
    for a, b in zip(found, wanted):
        assert a.dtype == torch.float32 and a.item() == b.item()
    sum(found).backward()
    sum(wanted).backward()
    for a, b in zip(maps, full):
        assert a.grad.dtype == dtype
        assert torch.equal(a.grad, b.grad.to(dtype))


def test_nothing_as_large_as_the_maps_but_their_gradient(monkeypatch):
    """1,203 classes, work in blocks of a hundredth of the maps."""
    maps = [torch.randn(1, 1203, *size, requires_grad=True) for size in ((32, 32), (16, 16))]
    total = sum(level.numel() for level in maps)
    monkeypatch.setattr(heatmap_focal_loss, 'CPU_BLOCK', total // 100)
    where = torch.randint(total, (500,))
    avg_factor = torch.tensor(1.0)
    loss = build()
    with Operators() as operators:
        sum(loss(maps, where, torch.rand(500), where[:20], avg_factor)).backward()
    large = [size for size in operators.new_sizes if size > total // 99]
    assert sorted(large) == sorted(level.numel() for level in maps)
    assert not operators.waits


def test_part_of_the_loss_has_a_gradient_too():
    x = row_map(LOGITS, grad=True)
    pos, _ = build()([x], *heat(HEATS), inds([2]), torch.tensor(1.0))
    pos.backward()
    assert x.grad.flatten().nonzero().tolist() == [[2]]
