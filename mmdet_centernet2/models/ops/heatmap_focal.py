"""Focal loss over heat maps without tensors of their size.

All elements count as negatives without heat, then the few with heat are
multiplied. The backward pass computes everything again, so that only the maps
are kept. Maps are worked on in blocks, small enough for a CPU's cache. A block
of n elements is a vector of n + 2, whose first and last stand for elements of
other blocks and never count.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Elements of a block.
CPU_BLOCK, GPU_BLOCK = 2**20, 2**25


@dataclass(frozen=True)
class FocalTerms:
    """The terms of the loss and their derivatives, for one block."""

    gamma: float
    low: float  # probabilities are clamped to [low, high]
    high: float
    ignore_from: float  # negatives from this probability on; none if not above 0

    def positives(self, probs: Tensor) -> Tensor:
        """Loss of positives."""
        return -(probs.log() * (1 - probs) ** self.gamma)

    def positive_slopes(self, probs: Tensor) -> Tensor:
        """Derivative of :meth:`positives` by the logit."""
        rest = 1 - probs
        return rest**self.gamma * (self.gamma * probs * probs.log() - rest)

    def negatives(self, probs: Tensor, cells: Tensor, weights: Tensor) -> Tensor:
        """Loss of all elements as negatives; ``probs`` is overwritten."""
        ignored = self._ignored(probs)
        terms = (1 - probs).log_().neg_().mul_(probs.pow_(self.gamma))
        return _weighted(terms, ignored, cells, weights)

    def negative_slopes(
        self, probs: Tensor, clamped: Tensor, cells: Tensor, weights: Tensor
    ) -> Tensor:
        """Derivative of :meth:`negatives` by the logits."""
        ignored = clamped | self._ignored(probs)
        rest = 1 - probs
        slopes = rest.log().mul_(rest).mul_(-self.gamma).add_(probs)
        slopes.mul_(torch.pow(probs, self.gamma, out=rest))
        return _weighted(slopes, ignored, cells, weights)

    def _ignored(self, probs: Tensor) -> Tensor:
        return probs >= (self.ignore_from if self.ignore_from > 0 else 2.0)


def _weighted(terms: Tensor, ignored: Tensor, cells: Tensor, weights: Tensor) -> Tensor:
    """Zero what is ignored, multiply cells by their least weight, in place."""
    terms.masked_fill_(ignored, 0.0)
    terms[:: len(terms) - 1].fill_(0.0)
    reduced = terms.index_select(0, cells) * weights
    return terms.scatter_reduce_(0, cells, reduced, 'amin')


def _blocks(maps: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Join small vectors and split large ones: views, the parts of a block."""
    size = CPU_BLOCK if maps[0].device.type == 'cpu' else GPU_BLOCK
    block: list[Tensor] = []
    room = size
    for part in (part for level in maps for part in level.split(size)):
        if len(part) > room:
            yield block
            block, room = [], size
        block.append(part)
        room -= len(part)
    yield block


def _sigmoid(parts: Sequence[Tensor]) -> Tensor:
    """Probabilities of a block, at least FP32, not yet clamped."""
    size = sum(len(part) for part in parts)
    probs = torch.empty(
        size + 2, dtype=torch.promote_types(parts[0].dtype, torch.float32), device=parts[0].device
    )
    start = 1
    for part in parts:
        probs[start : start + len(part)].copy_(part)
        start += len(part)
    probs[:: size + 1].fill_(torch.inf)
    return probs.sigmoid_()


def _places(indices: Tensor, start: int, size: int) -> Tensor:
    """Indices of elements within the block that begins at ``start``."""
    return (indices - (start - 1)).clamp_(0, size + 1)


class _HeatmapFocal(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, terms: FocalTerms, cells: Tensor, weights: Tensor, positives: Tensor, *maps: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.terms = terms
        ctx.save_for_backward(cells, weights, positives, *maps)
        pos_sums, neg_sums, start = [], [], 0
        for parts in _blocks([level.reshape(-1) for level in maps]):
            probs = _sigmoid(parts)
            size = len(probs) - 2
            places = _places(positives, start, size)
            probs.clamp_(terms.low, terms.high)
            probs[:: size + 1].fill_(1.0)  # no loss as a positive
            pos = terms.positives(probs.index_select(0, places))
            neg = terms.negatives(probs, _places(cells, start, size), weights)
            pos_sums.append(pos.sum())
            neg_sums.append(neg.sum())
            start += size
        return torch.stack(pos_sums).sum(), torch.stack(neg_sums).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, pos_scale: Tensor, neg_scale: Tensor) -> tuple:
        terms = ctx.terms
        cells, weights, positives, *maps = ctx.saved_tensors
        grads = [torch.empty_like(level, memory_format=torch.contiguous_format) for level in maps]
        start = 0
        for parts, outs in zip(
            _blocks([level.reshape(-1) for level in maps]),
            _blocks([grad.view(-1) for grad in grads]),
        ):
            raw = _sigmoid(parts)
            size = len(raw) - 2
            probs = raw.clamp(terms.low, terms.high)
            clamped = raw != probs
            places = _places(positives, start, size)
            pos_slopes = terms.positive_slopes(probs.index_select(0, places)).masked_fill_(
                clamped.index_select(0, places), 0.0
            )
            block = terms.negative_slopes(
                probs, clamped, _places(cells, start, size), weights
            ).mul_(neg_scale)
            block.index_add_(0, places, pos_slopes * pos_scale)
            sizes = [len(out) for out in outs]
            for out, slopes in zip(outs, block[1:-1].split(sizes)):
                out.copy_(slopes)
            start += size
        return (None, None, None, None, *grads)


def heatmap_focal_sums(
    terms: FocalTerms, cells: Tensor, weights: Tensor, positives: Tensor, maps: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Sums of the positive and of the negative part, two scalars.

    Args:
        terms: The loss of one element.
        cells: Elements of the flattened and concatenated maps with a weight,
            -1 for none, shape (K, ). Where one is repeated, its least weight
            counts.
        weights: Their weights as negatives in [0, 1], shape (K, ).
        positives: Elements that are positives, as often as listed, -1 for
            none, shape (P, ).
        maps: Raw scores, each (B, C, H, W); the gradient has their type.
    """
    return _HeatmapFocal.apply(terms, cells, weights, positives, *maps)
