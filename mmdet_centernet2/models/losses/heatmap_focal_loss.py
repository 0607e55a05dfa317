"""Focal loss on Gaussian heat maps."""

from collections.abc import Sequence

from mmdet.registry import MODELS
from torch import Tensor, nn

from ..ops.heatmap_focal import FocalTerms, heatmap_focal_sums


@MODELS.register_module()
class HeatmapFocalLoss(nn.Module):
    """Penalty-reduced focal loss with listed positives and listed heat.

    With ``p = clamp(sigmoid(logit))``, the positive part sums
    ``-log(p) (1 - p)^gamma`` over the listed cells (one that is listed twice
    counts twice), the negative part ``-log(1 - p) p^gamma (1 - h)^beta`` over
    **all** cells. The heat h is zero except where listed.

    Args:
        alpha: Weight of positives, ``1 - alpha`` of negatives; off below 0.
        beta: Exponent of the penalty reduction.
        gamma: Focal exponent.
        clamp: Probabilities are kept in [clamp, 1 - clamp].
        ignore_high_fp: Negatives with a probability of at least this are left
            out: they are often unlabelled objects. Off if not above 0.
        pos_weight, neg_weight: Further weights.

    Source: the original's ``heatmap_focal_loss.py``; docs/differences.md, 25.
    """

    def __init__(
        self,
        alpha: float = 0.25,
        beta: float = 4.0,
        gamma: float = 2.0,
        clamp: float = 1e-4,
        ignore_high_fp: float = -1.0,
        pos_weight: float = 1.0,
        neg_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.terms = FocalTerms(gamma, clamp, 1 - clamp, ignore_high_fp)
        self.pos_weight = pos_weight * (alpha if alpha >= 0 else 1.0)
        self.neg_weight = neg_weight * (1.0 - alpha if alpha >= 0 else 1.0)

    def forward(
        self,
        logits: Sequence[Tensor],
        heat_inds: Tensor,
        heat_values: Tensor,
        pos_inds: Tensor,
        avg_factor: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Positive and negative loss in FP32; the gradient is of the maps' type.

        Args:
            logits: Raw scores of each level, each (B, C, H, W).
            heat_inds: Elements with heat, as indices into the flattened and
                concatenated maps, -1 for none, shape (K, ). Where one is
                repeated, the highest heat counts.
            heat_values: Heat in [0, 1], shape (K, ).
            pos_inds: Elements of the positives, -1 for none, shape (P, ).
            avg_factor: Normaliser, a scalar of at least one.
        """
        weights = (1 - heat_values.float()) ** self.beta
        pos_sum, neg_sum = heatmap_focal_sums(self.terms, heat_inds, weights, pos_inds, logits)
        return (self.pos_weight * pos_sum / avg_factor, self.neg_weight * neg_sum / avg_factor)
