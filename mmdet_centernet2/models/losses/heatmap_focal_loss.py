"""Focal loss on Gaussian heat maps, positives and negatives apart."""
from typing import Tuple

from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class HeatmapFocalLoss(nn.Module):
    """Penalty-reduced focal loss with listed positives.

    With ``p = clamp(sigmoid(logit))``, the positive part sums
    ``-log(p) (1 - p)^gamma`` over the listed cells (a cell listed twice
    counts twice), the negative part sums
    ``-log(1 - p) p^gamma (1 - h)^beta`` over **all** cells.

    Args:
        alpha (float): Weight of positives, ``1 - alpha`` of negatives; below
            zero switches both off. Defaults to 0.25.
        beta (float): Exponent of the penalty reduction. Defaults to 4.0.
        gamma (float): Focal exponent. Defaults to 2.0.
        clamp (float): Probabilities are kept in [clamp, 1 - clamp].
            Defaults to 1e-4.
        ignore_high_fp (float): Negatives with a probability of at least this
            are left out, since they are often unlabelled objects; zero or
            less switches it off. Defaults to -1.
        pos_weight (float): Further weight of positives. Defaults to 1.0.
        neg_weight (float): Further weight of negatives. Defaults to 1.0.

    Source: CenterNet2 paper, section 4; spec §4.1, Q8.
    """

    def __init__(self,
                 alpha: float = 0.25,
                 beta: float = 4.0,
                 gamma: float = 2.0,
                 clamp: float = 1e-4,
                 ignore_high_fp: float = -1.,
                 pos_weight: float = 1.0,
                 neg_weight: float = 1.0) -> None:
        super().__init__()
        self.beta = beta
        self.gamma = gamma
        self.clamp = clamp
        self.ignore_high_fp = ignore_high_fp
        self.pos_weight = pos_weight * (alpha if alpha >= 0 else 1.)
        self.neg_weight = neg_weight * (1. - alpha if alpha >= 0 else 1.)

    def forward(self, logits: Tensor, heatmap: Tensor, pos_inds: Tensor,
                pos_labels: Tensor,
                avg_factor: Tensor) -> Tuple[Tensor, Tensor]:
        """Compute both parts in FP32.

        Args:
            logits (Tensor): Raw scores, shape (M, C).
            heatmap (Tensor): Targets in [0, 1], shape (M, C).
            pos_inds (Tensor): Rows of the positives, shape (P, ).
            pos_labels (Tensor): Columns of the positives, shape (P, ).
            avg_factor (Tensor): Normaliser, a scalar of at least one.

        Returns:
            tuple[Tensor, Tensor]: Positive and negative loss, scalars.
        """
        probs = logits.float().sigmoid().clamp(self.clamp, 1 - self.clamp)
        pos = probs[pos_inds, pos_labels]
        pos_loss = -(pos.log() * (1 - pos)**self.gamma).sum()
        neg_loss = -((1 - probs).log() * probs**self.gamma *
                     self._neg_weights(probs, heatmap)).sum()
        return (self.pos_weight * pos_loss / avg_factor,
                self.neg_weight * neg_loss / avg_factor)

    def _neg_weights(self, probs: Tensor, heatmap: Tensor) -> Tensor:
        """Weight of each cell as a negative, shape (M, C), no gradient."""
        weights = (1 - heatmap.float())**self.beta
        if self.ignore_high_fp > 0:
            weights = weights * (probs.detach() < self.ignore_high_fp)
        return weights
