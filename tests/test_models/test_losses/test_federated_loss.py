"""Federated loss against the slow reference and the masked computation."""

import collections
import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS

from mmdet_centernet2.models.losses import load_image_counts
from tests.reference import federated
from tests.reference.cases import SETTINGS

MANY = 13204


def build(**kwargs):
    return MODELS.build(dict(type='FederatedLoss', **kwargs))


def loss_of(num_classes, **kwargs):
    """A loss for 1,203 classes with the shipped counts, or with others."""
    if num_classes != 1203:
        kwargs['cat_freq'] = [1 + i % 997 for i in range(num_classes)]
    return build(**kwargs)


def case(num_classes, num_rois, num_foreground, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_rois, num_classes + 1, generator=generator)
    labels = torch.full((num_rois,), num_classes)
    labels[:num_foreground] = torch.randint(num_classes, (num_foreground,), generator=generator)
    return logits.requires_grad_(), labels


def masked_full_loss(logits, labels, chosen):
    """All classes with a mask, as the original computes it."""
    num_classes = logits.size(1) - 1
    targets = F.one_hot(labels, num_classes + 1)[:, :num_classes].float()
    mask = torch.zeros(num_classes)
    mask[chosen] = 1
    each = F.binary_cross_entropy_with_logits(logits[:, :num_classes], targets, reduction='none')
    return (each * mask).sum() / len(labels)


def chosen_by(loss, labels, num_classes, seed=7):
    """The classes that the next call with this seed will take."""
    torch.manual_seed(seed)
    chosen = loss.sample_classes(labels, num_classes)
    torch.manual_seed(seed)
    return chosen


@SETTINGS
@given(
    st.integers(1, 6).flatmap(
        lambda classes: st.lists(
            st.tuples(
                st.integers(0, classes),
                st.lists(st.floats(-30, 30, width=32), min_size=classes + 1, max_size=classes + 1),
            ),
            min_size=1,
            max_size=5,
        )
    ),
    st.integers(1, 7),
    st.integers(0, 99),
)
def test_value_of_the_reference(rois, num_sampled, seed):
    labels = torch.tensor([label for label, _ in rois])
    logits = torch.tensor([row for _, row in rois])
    loss = build(num_sampled_classes=num_sampled, cat_freq=list(range(1, logits.size(1))))
    chosen = chosen_by(loss, labels, logits.size(1) - 1, seed)
    expected = federated.federated_loss(logits.tolist(), labels.tolist(), set(chosen.tolist()))
    assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize('num_classes', [1203, MANY])
@pytest.mark.parametrize('num_foreground', [0, 5, 60])
def test_same_as_all_classes_with_a_mask(num_classes, num_foreground):
    loss = loss_of(num_classes)
    logits, labels = case(num_classes, 64, num_foreground)
    chosen = chosen_by(loss, labels, num_classes)
    found = loss(logits, labels, torch.ones(64), avg_factor=64.0)
    (grad,) = torch.autograd.grad(found, logits)
    expected = masked_full_loss(logits, labels, chosen)
    (expected_grad,) = torch.autograd.grad(expected, logits)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-5, atol=1e-9)
    assert not grad[:, num_classes].any()  # background logit
    assert (grad != 0).any(dim=0).sum() == len(chosen)


@pytest.mark.parametrize('num_classes', [1203, MANY])
def test_background_takes_one_of_the_places(num_classes):
    loss = loss_of(num_classes)
    _, labels = case(num_classes, 64, 5)
    appeared = labels[:5].unique()
    for own, places in ((labels, 49), (labels[:5], 50)):
        chosen = loss.sample_classes(own, num_classes)
        assert len(chosen) == len(chosen.unique()) == places
        assert chosen.min() >= 0 and chosen.max() < num_classes
        assert torch.isin(appeared, chosen).all()


@pytest.mark.parametrize('background', [True, False])
def test_fifty_or_more_that_appear_are_all_kept_and_nothing_is_drawn(background):
    loss = build()
    before = torch.get_rng_state()
    for count in (50 - background, 50, 80):
        labels = torch.arange(count).repeat(2) * 3
        if background:
            labels = torch.cat([labels, labels.new_tensor([1203])])
        chosen = loss.sample_classes(labels, 1203)
        assert chosen.sort().values.tolist() == list(range(0, 3 * count, 3))
    assert torch.equal(before, torch.get_rng_state())


def chi_square(seen, probabilities, draws):
    return sum((seen[key] - draws * p) ** 2 / (draws * p) for key, p in probabilities.items())


@pytest.mark.parametrize('power', [0.5, 0.0, 1.0])
def test_drawn_in_proportion_to_a_power_of_the_images(power):
    """Pairs drawn beside class 1 and the background, class 4 has no image."""
    images = [1, 1000, 4, 16, 0, 100, 25]
    loss = build(num_sampled_classes=4, cat_freq=images, freq_power=power)
    labels = torch.tensor([7, 1, 1, 7, 7])
    draws = 8000
    seen = collections.Counter(
        tuple(loss.sample_classes(labels, 7)[1:].sort().values.tolist()) for _ in range(draws)
    )
    free = [0, 2, 3, 5, 6]
    exact = federated.pair_probabilities([images[c] ** power if c in free else 0 for c in range(7)])
    assert set(seen) <= set(exact) and len(exact) == 10
    # With 9 degrees of freedom one draw in a million exceeds 45.1.
    assert chi_square(seen, exact, draws) < 45.1
    other = federated.pair_probabilities(
        [images[c] ** (power + 0.5) if c in free else 0 for c in range(7)]
    )
    assert chi_square(seen, other, draws) > 450


def test_default_counts_are_those_of_lvis():
    loss = build()
    expected = [math.sqrt(c) for c in load_image_counts('lvis_v1')]
    assert loss.class_weights.tolist() == pytest.approx(expected, rel=1e-6)


def test_every_call_draws_anew_and_a_seed_repeats_it():
    loss = build()
    logits, labels = case(1203, 16, 4)
    torch.manual_seed(3)
    first = [loss(logits, labels).item() for _ in range(3)]
    torch.manual_seed(3)
    assert [loss(logits, labels).item() for _ in range(3)] == first
    assert len(set(first)) == 3


def test_all_classes_are_the_plain_sigmoid_cross_entropy():
    loss = build(num_sampled_classes=None)
    logits, labels = case(20, 9, 5)
    expected = masked_full_loss(logits, labels, torch.arange(20))
    assert loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_single_missing_class_is_drawn():
    chosen = build().sample_classes(torch.arange(49), 1203)
    assert len(chosen) == 50 and chosen[-1] >= 49


def test_the_background_is_never_drawn():
    loss = build(num_sampled_classes=3, cat_freq=[1, 1, 1])
    for _ in range(50):
        chosen = loss.sample_classes(torch.tensor([1, 1]), 3)
        assert chosen.sort().values.tolist() == [0, 1, 2]


def test_fewer_classes_than_places():
    labels = torch.tensor([0, 5])
    chosen = build(cat_freq=[3, 0, 2, 1, 0]).sample_classes(labels, 5)
    assert chosen.sort().values.tolist() == [0, 2, 3]
    chosen = build(cat_freq=None).sample_classes(labels, 5)
    assert chosen.sort().values.tolist() == [0, 1, 2, 3, 4]


def test_weights_and_reductions():
    loss = build(num_sampled_classes=None, loss_weight=2.0)
    logits, labels = case(6, 4, 2)
    each = loss(logits, labels, reduction_override='none')
    assert each.shape == (4,)
    weights = torch.tensor([1.0, 0, 0, 3])
    total = (each * weights).sum().item()
    assert loss(logits, labels, weights, avg_factor=3.0).item() == pytest.approx(total / 3)
    assert loss(logits, labels, weights).item() == pytest.approx(total / 4)
    assert loss(logits, labels, weights, reduction_override='sum').item() == pytest.approx(total)


def test_one_background_slot_leaves_a_loss_of_zero_with_a_graph():
    loss = build(num_sampled_classes=1, cat_freq=None)
    logits, labels = case(6, 3, 0)
    found = loss(logits, labels)
    found.backward()
    assert found.item() == 0 and not logits.grad.any()


def test_no_roi():
    logits, labels = case(1203, 0, 0)
    found = build()(logits, labels)
    found.backward()
    assert found.item() == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_a_float_loss(dtype):
    loss = build()
    logits, labels = case(1203, 600, 100)
    half = (40 * logits.detach()).to(dtype).requires_grad_()
    chosen = chosen_by(loss, labels, 1203)
    found = loss(half, labels)
    found.backward()
    expected = masked_full_loss(half.detach().float(), labels, chosen)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert half.grad.isfinite().all()


def test_probabilities_and_accuracy():
    loss = build(cat_freq=None)
    logits = torch.tensor([[2.0, 1, 9], [0, 1, 9], [5, 4, -9]])
    torch.testing.assert_close(loss.get_activation(logits), logits.sigmoid())
    found = loss.get_accuracy(logits, torch.tensor([0, 0, 2]))
    assert found['acc'].tolist() == [50.0]  # the background does not count
    nothing = loss.get_accuracy(logits, torch.tensor([2, 2, 2]))
    assert nothing['acc'].tolist() == [0.0]


def test_adds_nothing_to_the_state_dict_and_can_be_copied():
    loss = build()
    assert not loss.state_dict()
    assert torch.equal(copy.deepcopy(loss).class_weights, loss.class_weights)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(use_sigmoid=False), 'use_sigmoid=True.*CrossEntropyLoss'),
        (dict(num_sampled_classes=0), 'num_sampled_classes'),
        (dict(prior_prob=0.0), 'prior_prob'),
        (dict(cat_freq=[1, -2]), 'label 1 is -2'),
    ],
)
def test_says_which_setting_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_says_that_the_counts_are_of_other_classes():
    with pytest.raises(ValueError, match='1203 classes, the box head 80'):
        build().get_cls_channels(80)
