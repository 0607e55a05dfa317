"""Focal loss on Gaussian heat maps, without tensors of their size.

All elements count as negatives without heat, then the few with heat are
multiplied. The backward pass computes everything again, so that only the maps
are kept. Maps are worked on in blocks, small enough for a CPU's cache. A block
of n elements is a vector of n + 2, whose first and last stand for elements of
other blocks and never count.
"""

from collections.abc import Iterator, Sequence

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: Elements of a block.
CPU_BLOCK, GPU_BLOCK = 2**20, 2**25


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
        self.gamma = gamma
        self.limits = clamp, 1 - clamp
        self.ignore_from = ignore_high_fp if ignore_high_fp > 0 else 2.0
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
        options = self.gamma, self.limits, self.ignore_from
        pos_sum, neg_sum = _FocalSums.apply(options, heat_inds, weights, pos_inds, *logits)
        return (self.pos_weight * pos_sum / avg_factor, self.neg_weight * neg_sum / avg_factor)


class _FocalSums(torch.autograd.Function):
    """Sums of the positive and of the negative part, two scalars."""

    @staticmethod
    def forward(
        ctx, options: tuple, cells: Tensor, weights: Tensor, positives: Tensor, *maps: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.options = gamma, limits, ignore_from = options
        ctx.save_for_backward(cells, weights, positives, *maps)
        pos_sums, neg_sums, start = [], [], 0
        for parts in _blocks(maps):
            probs = _sigmoid(parts).clamp_(*limits)
            size = len(probs) - 2
            probs[:: size + 1].fill_(1.0)  # no loss as a positive
            chosen = probs.index_select(0, _places(positives, start, size))
            pos_sums.append((-chosen.log() * (1 - chosen) ** gamma).sum())
            ignored = probs >= ignore_from
            terms = (1 - probs).log_().neg_().mul_(probs.pow_(gamma))
            neg_sums.append(_weigh(terms, ignored, _places(cells, start, size), weights).sum())
            start += size
        return torch.stack(pos_sums).sum(), torch.stack(neg_sums).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, pos_scale: Tensor, neg_scale: Tensor) -> tuple:
        gamma, limits, ignore_from = ctx.options
        cells, weights, positives, *maps = ctx.saved_tensors
        grads = [torch.empty_like(level, memory_format=torch.contiguous_format) for level in maps]
        start = 0
        for parts, outs in zip(_blocks(maps), _blocks(grads)):
            raw = _sigmoid(parts)
            size = len(raw) - 2
            probs = raw.clamp(*limits)
            clamped = raw != probs
            rest = 1 - probs
            slopes = rest.log().mul_(rest).mul_(-gamma).add_(probs)
            slopes.mul_(torch.pow(probs, gamma, out=rest))
            ignored = clamped | (probs >= ignore_from)
            _weigh(slopes, ignored, _places(cells, start, size), weights).mul_(neg_scale)
            places = _places(positives, start, size)
            chosen = probs.index_select(0, places)
            rest = 1 - chosen
            pos_slopes = rest**gamma * (gamma * chosen * chosen.log() - rest)
            pos_slopes.masked_fill_(clamped.index_select(0, places), 0.0)
            slopes.index_add_(0, places, pos_slopes * pos_scale)
            for out, part in zip(outs, slopes[1:-1].split([len(out) for out in outs])):
                out.copy_(part)
            start += size
        return (None, None, None, None, *grads)


def _blocks(maps: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Join small maps and split large ones: vectors, the parts of a block."""
    size = CPU_BLOCK if maps[0].device.type == 'cpu' else GPU_BLOCK
    block: list[Tensor] = []
    room = size
    for part in (part for level in maps for part in level.reshape(-1).split(size)):
        if len(part) > room:
            yield block
            block, room = [], size
        block.append(part)
        room -= len(part)
    yield block


def _sigmoid(parts: Sequence[Tensor]) -> Tensor:
    """Probabilities of a block, at least FP32, not yet clamped."""
    dtype = torch.promote_types(parts[0].dtype, torch.float32)
    end = parts[0].new_full((1,), torch.inf, dtype=dtype)
    return torch.cat([end, *parts, end]).sigmoid_()


def _places(indices: Tensor, start: int, size: int) -> Tensor:
    """Indices of elements within the block that begins at ``start``."""
    return (indices - (start - 1)).clamp_(0, size + 1)


def _weigh(terms: Tensor, ignored: Tensor, cells: Tensor, weights: Tensor) -> Tensor:
    """Zero what is ignored, multiply cells by their least weight, in place."""
    terms.masked_fill_(ignored, 0.0)
    terms[:: len(terms) - 1].fill_(0.0)
    reduced = terms.index_select(0, cells) * weights
    return terms.scatter_reduce_(0, cells, reduced, 'amin')
