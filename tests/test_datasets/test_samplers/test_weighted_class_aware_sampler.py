"""Class-aware sampling: weights and the stream."""

from itertools import islice

import numpy as np
import pytest
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import ConcatDataset

from .labelled import Labelled, streams_of_ranks

# Classes a, b, d in 4, 2 and 1 images, c in none; the last has no object.
LABELS = [[0], [0, 0, 0], [1, 0], [3, 0, 1], []]
WEIGHTS = [1 / 4, 1 / 4, 1 / 4 + 1 / 2, 1 / 4 + 1 / 2 + 1, 0]


def build(dataset=None, seed=0):
    if dataset is None:
        dataset = Labelled(LABELS)
    return DATA_SAMPLERS.build(dict(type='WeightedClassAwareSampler', dataset=dataset, seed=seed))


def test_weights():
    sampler = build()
    np.testing.assert_allclose(sampler.weights, WEIGHTS, rtol=1e-12)
    assert len(sampler) == 5


def test_the_stream_has_the_weights_distribution():
    stream = np.array(list(islice(build(Labelled(LABELS * 100)), 60000)))
    share = np.bincount(stream % 5, minlength=5) / len(stream)
    # five standard deviations of a share of 60000 draws: 0.01
    np.testing.assert_allclose(share, np.array(WEIGHTS) / 3, atol=0.01)
    assert share[4] == 0


def test_draws_are_with_replacement():
    epochs = np.array(list(islice(build(), 5000))).reshape(-1, 5)
    distinct = {len(set(epoch)) for epoch in epochs.tolist()}
    assert {1, 2, 3} <= distinct  # four images, five draws: never five
    # and one draw does not depend on the one before
    repeats = (epochs[:, 1] == epochs[:, 0]).mean()
    expected = np.square(np.array(WEIGHTS) / 3).sum()
    assert repeats == pytest.approx(expected, abs=0.08)


def test_ranks_share_one_stream(monkeypatch):
    whole = list(islice(build(), 300))
    streams = streams_of_ranks(monkeypatch, build, 3, 100)
    assert [i for triple in zip(*streams) for i in triple] == whole


def test_seeds():
    first, same, other = (list(islice(build(seed=seed), 100)) for seed in (0, 0, 1))
    assert first == same != other


def test_several_data_sets_count_as_one():
    sampler = build(ConcatDataset([Labelled(LABELS[:1]), Labelled(LABELS[1:])]))
    np.testing.assert_allclose(sampler.weights, WEIGHTS, rtol=1e-12)


def test_no_objects_at_all():
    with pytest.raises(ValueError, match='none of its 2 images.*ann_file'):
        build(Labelled([[], []]))
