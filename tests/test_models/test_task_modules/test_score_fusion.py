"""Scores of detections."""
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmdet_centernet2.models.task_modules import fuse_scores, mean_probs
from tests.reference.cases import SETTINGS
from tests.reference.cascade import mean_probabilities

LOGITS = st.floats(-8, 8, width=32)


@SETTINGS
@given(
    st.lists(
        st.lists(
            st.lists(LOGITS, min_size=4, max_size=4), min_size=2, max_size=2),
        min_size=1,
        max_size=3), st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_root_of_mean_probability_times_proposal_score(stages, proposal):
    found = fuse_scores(
        mean_probs([torch.tensor(rows).softmax(-1) for rows in stages]),
        torch.tensor(proposal, dtype=torch.float32))
    for row, probs, score in zip(found.tolist(), mean_probabilities(stages),
                                 proposal):
        assert row == pytest.approx([(p * score)**.5 for p in probs],
                                    rel=1e-5, abs=1e-6)


def test_probabilities_not_logits_are_averaged():
    """(0.5 + 0.9) / 2 = 0.7; the mean logit would give 0.75."""
    logits = [torch.zeros(1, 2), torch.tensor([[9., 1.]]).log()]
    mean = mean_probs([x.softmax(-1) for x in logits])
    assert mean[0].tolist() == pytest.approx([.7, .3])
    assert fuse_scores(mean, torch.tensor([.7])).tolist()[0] == pytest.approx(
        [.7, .21**.5])
