"""Repeat-factor and class-aware sampling: factors, weights, streams."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from mmdet.datasets import MultiImageMixDataset
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset

from mmdet_centernet2.datasets.samplers import images_and_labels

from .labelled import Labelled, streams_of_ranks

# Classes a, b, c, d in 8, 4, 1 and 0 of 10 images; the last has no object.
LABELS = [[0], [0, 0], [0, 1], [0, 1], [0, 1], [0], [0], [0, 2, 2], [1], []]
R_B, R_C = math.sqrt(0.9 / 0.4), math.sqrt(0.9 / 0.1)
R_A = math.sqrt(0.9 / 0.8)
FACTORS = [R_A, R_A, R_B, R_B, R_B, R_A, R_A, R_C, R_B, 1]
WEIGHTS = np.array([1, 1, 3, 3, 3, 1, 1, 9, 2, 0]) / 8
BOTH = pytest.mark.parametrize('kind', ['RepeatFactorSampler', 'WeightedClassAwareSampler'])


def build(kind, dataset=None, seed=0, **kwargs):
    if dataset is None:
        dataset = Labelled(LABELS)
    return DATA_SAMPLERS.build(dict(type=kind, dataset=dataset, seed=seed, **kwargs))


def repeat(dataset=None, repeat_thr=0.9, **kwargs):
    return build('RepeatFactorSampler', dataset, repeat_thr=repeat_thr, **kwargs)


def pairs(dataset):
    images, labels = images_and_labels(dataset)
    return sorted(zip(images.tolist(), labels.tolist()))


def test_each_pair_of_image_and_class_once_through_wrappers_too():
    labels, once = [[2, 2, 0], [], [1]], [(0, 0), (0, 2), (2, 1)]
    twice = once + [(i + 3, label) for i, label in once]
    assert pairs(Labelled(labels)) == pairs(Labelled(labels, serialize_data=True)) == once
    assert pairs(ConcatDataset([Labelled(labels), Labelled(labels)])) == twice
    assert pairs(RepeatDataset(Labelled(labels), times=2)) == twice
    assert pairs(MultiImageMixDataset(Labelled(labels), [])) == once
    assert pairs(ClassBalancedDataset(Labelled(labels), 1e-3)) == once


@pytest.mark.parametrize('parts', [[LABELS], [LABELS[:4], LABELS[4:]]])
def test_factors_and_weights(parts):
    dataset = ConcatDataset([Labelled(part) for part in parts])
    np.testing.assert_allclose(repeat(dataset).repeat_factors, FACTORS, rtol=1e-12)
    sampler = build('WeightedClassAwareSampler', dataset)
    np.testing.assert_allclose(sampler.weights, WEIGHTS, rtol=1e-12)
    assert len(sampler) == len(LABELS)


def test_common_classes_are_not_repeated():
    sampler = build('RepeatFactorSampler')  # threshold 0.001
    assert (sampler.repeat_factors == 1).all()
    stream = list(islice(sampler, 50))
    for epoch in range(5):
        assert sorted(stream[epoch * 10 : epoch * 10 + 10]) == list(range(10))


def test_every_epoch_rounds_anew_up_or_down():
    sampler = repeat(Labelled(LABELS * 100))
    generator = torch.Generator().manual_seed(0)
    epochs = np.stack([np.bincount(sampler._epoch(generator), minlength=1000) for _ in range(40)])
    assert len(np.unique(epochs, axis=0)) == 40
    epochs = epochs.reshape(4000, 10)  # images alike, ten in a row
    assert (epochs >= np.floor(FACTORS)).all()
    assert (epochs <= np.ceil(FACTORS)).all()
    # the mean of 4000 draws of a yes or no: five standard deviations
    np.testing.assert_allclose(epochs.mean(0), FACTORS, atol=0.04)
    np.testing.assert_array_equal(epochs[:, 7], 3)  # a whole number
    np.testing.assert_array_equal(epochs[:, 9], 1)
    # images do not round together
    assert abs(np.corrcoef(epochs[:, 0], epochs[:, 1])[0, 1]) < 0.08


@pytest.mark.parametrize(
    'kind, options, wanted, tolerance',
    [
        # five standard deviations of a share of 60000 draws with replacement: 0.01
        ('RepeatFactorSampler', dict(repeat_thr=0.9), FACTORS, 2e-3),
        ('WeightedClassAwareSampler', {}, WEIGHTS, 0.01),
    ],
)
def test_the_stream_has_the_distribution_and_is_shuffled(kind, options, wanted, tolerance):
    stream = np.array(list(islice(build(kind, Labelled(LABELS * 100), **options), 60000)))
    share = np.bincount(stream % 10, minlength=10) / len(stream)
    np.testing.assert_allclose(share, wanted / np.sum(wanted), atol=tolerance)
    assert (np.diff(stream) < 0).mean() > 0.4  # unshuffled: once an epoch


def test_unshuffled():
    stream = list(islice(repeat(shuffle=False), 12))
    assert stream == sorted(stream)


def test_class_aware_draws_are_with_replacement():
    stream = list(islice(build('WeightedClassAwareSampler'), 10000))
    epochs = np.array(stream).reshape(-1, 10)
    assert max(len(set(epoch)) for epoch in epochs.tolist()) < 10
    # and one draw does not depend on the one before
    repeats = (epochs[:, 1] == epochs[:, 0]).mean()
    assert repeats == pytest.approx(np.square(WEIGHTS / WEIGHTS.sum()).sum(), abs=0.08)


@BOTH
def test_ranks_share_one_stream_that_the_seed_decides(kind, monkeypatch):
    whole, same, other = (list(islice(build(kind, seed=seed), 300)) for seed in (0, 0, 1))
    assert whole == same != other
    streams = streams_of_ranks(monkeypatch, lambda: build(kind), 3, 100)
    assert [i for triple in zip(*streams) for i in triple] == whole


@BOTH
def test_nothing_to_count(kind):
    with pytest.raises(ValueError, match='none of the 2 images.*ann_file'):
        build(kind, Labelled([[], []]))


def test_bad_threshold():
    with pytest.raises(ValueError, match='repeat_thr must be above 0'):
        repeat(repeat_thr=0)
