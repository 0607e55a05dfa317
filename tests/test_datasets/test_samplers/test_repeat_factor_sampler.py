"""Repeat-factor sampling: the factors, their rounding, the stream."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import ConcatDataset

from .labelled import Labelled, streams_of_ranks

# Classes a, b, c, d in 8, 4, 1 and 0 of 10 images; the last has no object.
LABELS = [[0], [0, 0], [0, 1], [0, 1], [0, 1], [0], [0], [0, 2, 2], [1], []]
R_B, R_C = math.sqrt(0.9 / 0.4), math.sqrt(0.9 / 0.1)
R_A = math.sqrt(0.9 / 0.8)
FACTORS = [R_A, R_A, R_B, R_B, R_B, R_A, R_A, R_C, R_B, 1]


def build(dataset=None, **kwargs):
    if dataset is None:
        dataset = Labelled(LABELS)
    return DATA_SAMPLERS.build(dict(type='RepeatFactorSampler', dataset=dataset, seed=0, **kwargs))


def test_factors():
    sampler = build(repeat_thr=0.9)
    np.testing.assert_allclose(sampler.repeat_factors, FACTORS, rtol=1e-12)
    assert len(sampler) == len(LABELS)


def test_common_classes_are_not_repeated():
    sampler = build()  # threshold 0.001
    assert (sampler.repeat_factors == 1).all()
    stream = list(islice(sampler, 50))
    for epoch in range(5):
        assert sorted(stream[epoch * 10 : epoch * 10 + 10]) == list(range(10))


def test_every_epoch_rounds_anew_up_or_down():
    sampler = build(Labelled(LABELS * 100), repeat_thr=0.9)
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


def test_the_stream_has_the_factors_distribution_and_is_shuffled():
    sampler = build(Labelled(LABELS * 100), repeat_thr=0.9)
    stream = np.array(list(islice(sampler, 60000)))
    share = np.bincount(stream % 10, minlength=10) / len(stream)
    np.testing.assert_allclose(share, FACTORS / np.sum(FACTORS), atol=2e-3)
    steps = np.diff(stream)
    assert (steps < 0).mean() > 0.4  # unshuffled: once an epoch


def test_unshuffled():
    stream = list(islice(build(repeat_thr=0.9, shuffle=False), 12))
    assert stream == sorted(stream)


def test_ranks_share_one_stream(monkeypatch):
    whole = list(islice(build(repeat_thr=0.9), 400))
    first, second = streams_of_ranks(monkeypatch, lambda: build(repeat_thr=0.9), 2, 200)
    assert [i for pair in zip(first, second) for i in pair] == whole


def test_seeds():
    first, same = (list(islice(build(repeat_thr=0.9), 100)) for _ in range(2))
    assert first == same
    other = build(repeat_thr=0.9)
    other.seed = 1
    assert first != list(islice(other, 100))


def test_several_data_sets_count_as_one():
    parts = [Labelled(LABELS[:4]), Labelled(LABELS[4:])]
    sampler = build(ConcatDataset(parts), repeat_thr=0.9)
    np.testing.assert_allclose(sampler.repeat_factors, FACTORS, rtol=1e-12)


def test_bad_arguments():
    with pytest.raises(ValueError, match='repeat_thr must be above 0'):
        build(repeat_thr=0)
    with pytest.raises(ValueError, match='none of its 3 images'):
        build(Labelled([[], [], []]))
