"""Where the scores of detections come from: ``test_cfg.rcnn.explain=True``."""

from collections.abc import Sequence

import torch
from mmdet.utils import InstanceList
from torch import Tensor


def add_explanation(
    results: InstanceList, proposals: InstanceList, stage_probs: Sequence[Tensor]
) -> None:
    """Tell, for each detection, what its score was made of.

    Adds ``proposal_scores`` (n, ), the heat map's value at the proposal's
    cell; ``levels`` (n, ), the index of its pyramid level; ``stage_probs``
    (n, S, C + 1), class probabilities of each stage, background last; and
    ``class_probs`` (n, C + 1), their mean. The score of class c is
    ``sqrt(proposal_scores * class_probs[:, c])``.

    Args:
        results: Detections of each image, with ``proposal_indices`` (n, ).
        proposals: Proposals of each image, with ``scores`` and ``levels``.
        stage_probs: Of all images' proposals, (N, C + 1) for each stage.
    """
    counts = [len(each) for each in proposals]
    for result, proposal, probs in zip(
        results, proposals, torch.stack(list(stage_probs), 1).split(counts)
    ):
        indices = result.proposal_indices
        result.proposal_scores = proposal.scores[indices]
        if 'levels' in proposal:
            result.levels = proposal.levels[indices]
        result.stage_probs = probs[indices]
        result.class_probs = result.stage_probs.mean(1)
