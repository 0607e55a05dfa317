"""Sigmoid cross entropy over some of the classes only."""
from typing import Dict, List, NamedTuple, Optional, Set, Union

import torch
import torch.nn.functional as F
from mmdet.models.losses import weight_reduce_loss
from mmdet.registry import MODELS
from mmengine.dist import get_rank
from torch import Tensor, nn

from ...datasets.image_counts import CountSource, load_image_counts


def federated_bce(cls_score: Tensor, labels: Tensor,
                  columns: Tensor) -> Tensor:
    """Binary cross entropy of each RoI, summed over the given classes.

    Args:
        cls_score (Tensor): Logits of these classes only, shape (n, k).
        labels (Tensor): Class of each RoI, shape (n, ); one that is not in
            ``columns``, as the background is not, has no positive column.
        columns (Tensor): The class of each column, shape (k, ).

    Returns:
        Tensor: FP32, shape (n, ).
    """
    targets = (labels[:, None] == columns[None]).float()
    return F.binary_cross_entropy_with_logits(
        cls_score.float(), targets, reduction='none').sum(dim=1)


def _generator_of_rank() -> torch.Generator:
    """Random numbers of this process.

    They follow from torch's seed and the rank. The first process, and one that
    is alone, uses torch's generator itself.
    """
    rank = get_rank()
    if rank == 0:
        return torch.default_generator
    seed = torch.randint(2**62, ()).item()
    return torch.Generator().manual_seed(seed + rank)


class ChosenScores(NamedTuple):
    """Logits of some of the classes, the others were never computed.

    Args:
        logits (Tensor): Shape (n, k).
        classes (Tensor): The class of each column, distinct, shape (k, ).
        num_classes (int): C, the background's label.
    """
    logits: Tensor
    classes: Tensor
    num_classes: int

    def numel(self) -> int:
        """Zero without RoIs, which is all that mmdet's box head asks."""
        return len(self.logits)


@MODELS.register_module()
class FederatedLoss(nn.Module):
    """Federated loss for box heads with ``num_classes + 1`` logits.

    Negatives are trusted for a few classes at a time: those among the labels
    of this call and, up to ``num_sampled_classes``, others drawn without
    replacement with a probability proportional to ``images^freq_power``. The
    background takes one of the places if it is among the labels. Classes are
    drawn anew in every call, that is for each process, stage and iteration;
    processes with the same seed draw different classes.
    The loss is the sum over RoIs and chosen classes, divided by the number of
    RoIs, not by that of classes. The logit of the background is never used.

    Only the chosen columns are read, so memory and time hardly grow with the
    number of classes; :class:`CenterNet2BBoxHead` does not even compute the
    others while training. The draw is made on the CPU, at the price of one
    wait for the labels in each call. No tensor is added to the state dict.

    Args:
        num_sampled_classes (int, optional): Number of classes, background
            included if it appears; more if more appear. None takes all
            classes, which is the plain sigmoid cross entropy. Defaults to 50.
        cat_freq (str, Path or Sequence[float], optional): Images of each
            class, see :func:`load_image_counts`. Classes without any image
            are not drawn. None draws uniformly. Defaults to 'lvis_v1'.
        freq_power (float): Exponent of the images. Defaults to 0.5.
        use_sigmoid (bool): Only True is supported: with a softmax over the
            classes that appeared nothing would change.
        prior_prob (float): Probability of every class at the start of
            training, for heads that ask for it. Defaults to 0.01.
        reduction (str): 'none' (one number for each RoI), 'mean' or 'sum'.
            Defaults to 'mean'.
        loss_weight (float): Defaults to 1.0.

    Raises:
        ValueError: If an argument is out of its range.

    Source: CenterNet2 paper (arXiv 2103.07461), experiments on LVIS;
    docs/differences.md, 32 and 33.
    """

    # What mmdet's box heads ask a loss with its own activation for.
    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = True

    def __init__(self,
                 num_sampled_classes: Optional[int] = 50,
                 cat_freq: Optional[CountSource] = 'lvis_v1',
                 freq_power: float = 0.5,
                 use_sigmoid: bool = True,
                 prior_prob: float = 0.01,
                 reduction: str = 'mean',
                 loss_weight: float = 1.0) -> None:
        super().__init__()
        if not use_sigmoid:
            raise ValueError(
                'FederatedLoss needs use_sigmoid=True: every class that a '
                'softmax loss has a target for is among the chosen ones, so '
                'that the choice would change nothing; take '
                "dict(type='CrossEntropyLoss', use_sigmoid=False) instead")
        if num_sampled_classes is not None and num_sampled_classes < 1:
            raise ValueError('num_sampled_classes must be at least 1, or '
                             f'None for all, got {num_sampled_classes}')
        if not 0 < prior_prob < 1:
            raise ValueError(
                f'prior_prob must be between 0 and 1, got {prior_prob}')
        self.num_sampled_classes = num_sampled_classes
        self.prior_prob = prior_prob
        self.use_sigmoid = True
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.class_weights = None
        if cat_freq is not None and num_sampled_classes is not None:
            self.class_weights = self._draw_weights(cat_freq, freq_power)
        self._bounds = None

    @property
    def samples_classes(self) -> bool:
        """Whether most logits are not needed."""
        return self.num_sampled_classes is not None

    @staticmethod
    def _draw_weights(cat_freq: CountSource, freq_power: float) -> Tensor:
        """Relative probability of each class to be drawn, shape (C, ).

        It stays on the CPU, where classes are drawn; not a buffer, since
        checkpoints have no use for it.
        """
        counts = torch.tensor(
            load_image_counts(cat_freq), dtype=torch.float32, device='cpu')
        return torch.where(counts > 0, counts**freq_power, 0.)

    def get_cls_channels(self, num_classes: int) -> int:
        """Number of logits: one for the background, last, though unused.

        Args:
            num_classes (int): Number of classes.

        Returns:
            int: ``num_classes + 1``.

        Raises:
            ValueError: If ``cat_freq`` is for another number of classes.
        """
        self._check_num_classes(num_classes)
        return num_classes + 1

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Probabilities of the logits.

        Args:
            cls_score (Tensor): Shape (n, C + 1).

        Returns:
            Tensor: Shape (n, C + 1). The last column means nothing; mmdet
            drops it.
        """
        return cls_score.sigmoid()

    def get_accuracy(self, cls_score: Union[Tensor, ChosenScores],
                     labels: Tensor) -> Dict[str, Tensor]:
        """Share of the foreground RoIs whose best class is right.

        Args:
            cls_score (Tensor or ChosenScores): Shape (n, C + 1), or the
                chosen classes: then it is the best **of those**, a figure
                that is easier to reach.
            labels (Tensor): Shape (n, ), C for background.

        Returns:
            dict[str, Tensor]: ``acc`` in percent, shape (1, ); zero without
            foreground.
        """
        if isinstance(cls_score, ChosenScores):
            logits, classes, num_classes = cls_score
        else:
            num_classes = cls_score.size(1) - 1
            logits, classes = cls_score[:, :num_classes], None
        if not logits.size(1):  # then there is no foreground either
            return dict(acc=logits.new_zeros(1))
        best = logits.detach().argmax(dim=1)
        correct = (best if classes is None else classes[best]) == labels
        num_foreground = (labels < num_classes).sum().clamp(min=1)
        return dict(acc=(100. * correct.sum() / num_foreground).reshape(1))

    def sample_classes(self, labels: Tensor, num_classes: int) -> Tensor:
        """Choose the classes of one call.

        Args:
            labels (Tensor): Label of each RoI, C for background, shape (n, ).
            num_classes (int): C.

        Returns:
            Tensor: Distinct classes below C, on the device of ``labels``: the
            ones that appeared, then the drawn ones.

        Raises:
            ValueError: If a label is not in [0, C].
        """
        self._check_num_classes(num_classes)
        if not self.samples_classes:
            return torch.arange(num_classes, device=labels.device)
        appeared = labels.cpu().unique().tolist()
        if appeared and not 0 <= appeared[0] <= appeared[-1] <= num_classes:
            raise ValueError(f'labels must be in [0, {num_classes}], got '
                             f'{appeared[0]} to {appeared[-1]}')
        chosen = appeared + self._draw_classes(set(appeared), num_classes)
        return labels.new_tensor([c for c in chosen if c < num_classes])

    def _draw_classes(self, appeared: Set[int],
                      num_classes: int) -> List[int]:
        """Draw what is missing, background and ``appeared`` apart.

        Drawing with replacement and passing over what was drawn before, or
        appeared, is drawing without replacement, and takes no look at every
        class.
        """
        missing = self.num_sampled_classes - len(appeared)
        if missing <= 0:
            return []
        bounds = self._class_bounds(num_classes)
        generator = _generator_of_rank()
        draws = bounds[-1] * torch.rand(
            2 * missing, dtype=bounds.dtype, generator=generator)
        found = torch.searchsorted(bounds, draws, right=True)
        drawn = dict.fromkeys(
            c for c in found.tolist() if c not in appeared and c < num_classes)
        drawn = list(drawn)[:missing]
        taken = [c for c in appeared if c < num_classes] + drawn
        return drawn + self._draw_rest(
            taken, missing - len(drawn), num_classes, generator)

    def _draw_rest(self, taken: List[int], missing: int, num_classes: int,
                   generator: torch.Generator) -> List[int]:
        """Go on drawing where too many draws were passed over."""
        if not missing:
            return []
        weights = self._class_bounds(num_classes).diff(
            prepend=torch.zeros(1, dtype=torch.float64))
        weights[taken] = 0
        missing = min(missing, int(weights.count_nonzero()))
        if not missing:
            return []
        return weights.multinomial(
            missing, replacement=False, generator=generator).tolist()

    def _class_bounds(self, num_classes: int) -> Tensor:
        """Running sum of the classes' weights, FP64 on the CPU, (C, )."""
        if self._bounds is None or len(self._bounds) != num_classes:
            weights = self.class_weights
            if weights is None:
                weights = torch.ones(num_classes, device='cpu')
            self._bounds = weights.double().cumsum(0)
        return self._bounds

    def forward(self,
                cls_score: Union[Tensor, ChosenScores],
                labels: Tensor,
                label_weights: Optional[Tensor] = None,
                avg_factor: Optional[float] = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """Compute the loss in FP32.

        Args:
            cls_score (Tensor or ChosenScores): Logits, background last, shape
                (n, C + 1); or those of classes that were chosen for these
                labels by :meth:`sample_classes`.
            labels (Tensor): Label of each RoI, C for background, shape (n, ).
            label_weights (Tensor, optional): Weight of each RoI, shape (n, ).
            avg_factor (float, optional): Divisor of the mean. Defaults to the
                number of RoIs.
            reduction_override (str, optional): In place of ``reduction``.

        Returns:
            Tensor: A scalar, or shape (n, ) for 'none'.
        """
        reduction = reduction_override or self.reduction
        if reduction == 'mean' and avg_factor is None:
            avg_factor = max(len(labels), 1)
        if not isinstance(cls_score, ChosenScores):
            num_classes = cls_score.size(1) - 1
            classes = self.sample_classes(labels, num_classes)
            cls_score = ChosenScores(
                cls_score.index_select(1, classes), classes, num_classes)
        loss = federated_bce(cls_score.logits, labels, cls_score.classes)
        return self.loss_weight * weight_reduce_loss(
            loss, label_weights, reduction, avg_factor)

    def _check_num_classes(self, num_classes: int) -> None:
        if self.class_weights is None or len(
                self.class_weights) == num_classes:
            return
        raise ValueError(
            f'FederatedLoss: cat_freq has {len(self.class_weights)} classes, '
            f'the box head {num_classes}: set cat_freq to the image counts of '
            'your data set (tools/dataset_converters/lvis_image_counts.py '
            'makes them) or to None')
