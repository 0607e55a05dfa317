"""How the two stages' probabilities become one score."""
from typing import Sequence

import torch
from torch import Tensor


def mean_probs(stage_probs: Sequence[Tensor]) -> Tensor:
    """Average class **probabilities**, not logits, over the stages.

    Args:
        stage_probs (Sequence[Tensor]): Of each stage, (n, C + 1).

    Returns:
        Tensor: Shape (n, C + 1).
    """
    return sum(stage_probs) / float(len(stage_probs))


def fuse_scores(probs: Tensor, proposal_scores: Tensor) -> Tensor:
    """Geometric mean of class probability and proposal score.

    The proposal score is itself a square root, so that a detection scores
    ``prob^(1/2) * p_object^(1/4)``.

    Args:
        probs (Tensor): Class probabilities, shape (n, C + 1).
        proposal_scores (Tensor): First-stage scores, shape (n, ).

    Returns:
        Tensor: Shape (n, C + 1).

    Source: CenterNet2 paper (arXiv 2103.07461); docs/differences.md, 35.
    """
    return torch.sqrt(probs * proposal_scores[:, None])
