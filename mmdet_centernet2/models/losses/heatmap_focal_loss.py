"""Focal loss on Gaussian heat maps, positives and negatives apart."""
from dataclasses import dataclass
from typing import Iterator, List, Sequence, Tuple

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: Elements that are worked on at once, for temporary tensors to stay small:
#: in the cache of a CPU, or well below the maps themselves on a GPU.
CPU_BLOCK, GPU_BLOCK = 2**20, 2**25


@dataclass(frozen=True)
class _Focal:
    """The terms of the loss and their derivatives, for blocks of elements.

    A block of n elements is a vector of n + 2: the first and the last stand
    for all that lies in other blocks, and never count.
    """
    gamma: float
    low: float
    high: float
    ignore_from: float

    def sigmoid(self, pieces: Sequence[Tensor]) -> Tensor:
        """Probabilities of a block in FP32 (or FP64), not yet clamped."""
        size = sum(len(piece) for piece in pieces)
        dtype = torch.promote_types(pieces[0].dtype, torch.float32)
        probs = torch.empty(size + 2, dtype=dtype, device=pieces[0].device)
        _copy(pieces, probs)
        probs[::size + 1].fill_(torch.inf)
        return probs.sigmoid_()

    def positives(self, probs: Tensor) -> Tensor:
        """Loss of positives."""
        return -(probs.log() * (1 - probs)**self.gamma)

    def positive_slopes(self, probs: Tensor) -> Tensor:
        """Derivative of :meth:`positives` by the logit."""
        rest = 1 - probs
        return rest**self.gamma * (self.gamma * probs * probs.log() - rest)

    def negatives(self, probs: Tensor, cells: Tensor,
                  weights: Tensor) -> Tensor:
        """Loss of all elements of a block as negatives.

        Args:
            probs (Tensor): Clamped probabilities; destroyed.
            cells (Tensor): Places with a weight below one, repeated ones
                too, of which the least counts.
            weights (Tensor): Their weights.
        """
        ignored = self._ignored(probs)
        terms = (1 - probs).log_().neg_().mul_(probs.pow_(self.gamma))
        return _weighted(terms, ignored, cells, weights)

    def negative_slopes(self, probs: Tensor, clamped: Tensor, cells: Tensor,
                        weights: Tensor) -> Tensor:
        """Derivative of :meth:`negatives` by the logits; keeps ``probs``."""
        ignored = clamped | self._ignored(probs)
        rest = 1 - probs
        slopes = rest.log().mul_(rest).mul_(-self.gamma).add_(probs)
        slopes.mul_(torch.pow(probs, self.gamma, out=rest))
        return _weighted(slopes, ignored, cells, weights)

    def _ignored(self, probs: Tensor) -> Tensor:
        """Mask of what may be an unlabelled object."""
        return probs >= (self.ignore_from if self.ignore_from > 0 else 2.)


def _weighted(terms: Tensor, ignored: Tensor, cells: Tensor,
              weights: Tensor) -> Tensor:
    """Terms that are never negative, in place: zero where ignored, and times
    the least of the weights."""
    terms.masked_fill_(ignored, 0.)
    terms[::len(terms) - 1].fill_(0.)
    reduced = terms.index_select(0, cells) * weights
    return terms.scatter_reduce_(0, cells, reduced, 'amin')


def _copy(pieces: Sequence[Tensor], block: Tensor) -> None:
    """Fill a block from its pieces."""
    start = 1
    for piece in pieces:
        block[start:start + len(piece)].copy_(piece)
        start += len(piece)


def _spread(block: Tensor, pieces: Sequence[Tensor]) -> None:
    """Fill pieces from their block."""
    start = 1
    for piece in pieces:
        piece.copy_(block[start:start + len(piece)])
        start += len(piece)


def _blocks(maps: Sequence[Tensor]) -> Iterator[List[Tensor]]:
    """Cut vectors into blocks: small ones are joined, large ones divided.

    Args:
        maps (Sequence[Tensor]): Contiguous vectors.

    Yields:
        list[Tensor]: Views, the pieces of a block, in order.
    """
    size = CPU_BLOCK if maps[0].device.type == 'cpu' else GPU_BLOCK
    block: List[Tensor] = []
    room = size
    for piece in (piece for level in maps for piece in level.split(size)):
        if len(piece) > room:
            yield block
            block, room = [], size
        block.append(piece)
        room -= len(piece)
    yield block


def _places(inds: Tensor, start: int, size: int) -> Tensor:
    """Numbers of elements as places in a block that begins at ``start``."""
    return (inds - (start - 1)).clamp_(0, size + 1)


class _HeatmapFocal(torch.autograd.Function):
    """Sums of the positive and of the negative part.

    Only the maps are kept for the backward pass, which computes everything
    again, block by block, and writes the gradient.
    """

    @staticmethod
    def forward(ctx, focal: _Focal, cells: Tensor, weights: Tensor,
                positives: Tensor, *maps: Tensor) -> Tuple[Tensor, Tensor]:
        ctx.focal = focal
        ctx.save_for_backward(cells, weights, positives, *maps)
        pos_sums, neg_sums, start = [], [], 0
        for pieces in _blocks([level.reshape(-1) for level in maps]):
            probs = focal.sigmoid(pieces)
            size = len(probs) - 2
            places = _places(positives, start, size)
            probs.clamp_(focal.low, focal.high)
            probs[::size + 1].fill_(1.)  # costs a positive nothing
            pos_terms = focal.positives(probs.index_select(0, places))
            neg_terms = focal.negatives(probs, _places(cells, start, size),
                                        weights)
            pos_sums.append(pos_terms.sum())
            neg_sums.append(neg_terms.sum())
            start += size
        return torch.stack(pos_sums).sum(), torch.stack(neg_sums).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, pos_scale: Tensor, neg_scale: Tensor) -> tuple:
        focal = ctx.focal
        cells, weights, positives, *maps = ctx.saved_tensors
        grads = [
            torch.empty_like(level, memory_format=torch.contiguous_format)
            for level in maps
        ]
        start = 0
        for pieces, out in zip(
                _blocks([level.reshape(-1) for level in maps]),
                _blocks([grad.view(-1) for grad in grads])):
            raw = focal.sigmoid(pieces)
            size = len(raw) - 2
            probs = raw.clamp(focal.low, focal.high)
            clamped = raw != probs
            places = _places(positives, start, size)
            pos_slopes = focal.positive_slopes(probs.index_select(
                0, places)).masked_fill_(clamped.index_select(0, places), 0.)
            block = focal.negative_slopes(probs, clamped,
                                          _places(cells, start, size),
                                          weights).mul_(neg_scale)
            block.index_add_(0, places, pos_slopes * pos_scale)
            _spread(block, out)
            start += size
        return (None, None, None, None, *grads)


@MODELS.register_module()
class HeatmapFocalLoss(nn.Module):
    """Penalty-reduced focal loss with listed positives and listed heat.

    With ``p = clamp(sigmoid(logit))``, the positive part sums
    ``-log(p) (1 - p)^gamma`` over the listed cells (a cell listed twice
    counts twice), the negative part sums
    ``-log(1 - p) p^gamma (1 - h)^beta`` over **all** cells. The heat h is
    zero but at the cells that are listed for it, so there is no target as
    large as the maps: their terms are computed as if there was no heat, and
    those of the listed cells are then multiplied. A term only gets smaller
    by that, so the least of several for one cell is that of the most heat.
    Nothing is subtracted that could cancel.

    Memory: the gradient, and a few temporary blocks of constant size.

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

    Source: the original's ``heatmap_focal_loss.py``; docs/differences.md, 25.
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
        self.focal = _Focal(gamma, clamp, 1 - clamp, ignore_high_fp)
        self.pos_weight = pos_weight * (alpha if alpha >= 0 else 1.)
        self.neg_weight = neg_weight * (1. - alpha if alpha >= 0 else 1.)

    def forward(self, logits: Sequence[Tensor], heat_inds: Tensor,
                heat_values: Tensor, pos_inds: Tensor,
                avg_factor: Tensor) -> Tuple[Tensor, Tensor]:
        """Compute both parts in FP32; the gradient is of the maps' type.

        Args:
            logits (Sequence[Tensor]): Raw scores of each level, each
                (B, C, H, W). Maps in the channels-last format are copied.
            heat_inds (Tensor): Where there is heat: numbers of elements of
                the levels' maps laid end to end, in any order, shape (K, ).
                Where one is listed several times, the highest heat counts.
                -1 stands for nothing.
            heat_values (Tensor): Heat in [0, 1], shape (K, ).
            pos_inds (Tensor): Elements of the positives, shape (P, ). One
                that is listed several times counts several times. -1 stands
                for nothing.
            avg_factor (Tensor): Normaliser, a scalar of at least one.

        Returns:
            tuple[Tensor, Tensor]: Positive and negative loss, scalars.
        """
        weights = (1 - heat_values.float())**self.beta
        pos_sum, neg_sum = _HeatmapFocal.apply(self.focal, heat_inds, weights,
                                               pos_inds, *logits)
        return (self.pos_weight * pos_sum / avg_factor,
                self.neg_weight * neg_sum / avg_factor)
