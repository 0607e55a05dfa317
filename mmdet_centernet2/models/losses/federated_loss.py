"""Sigmoid cross entropy over some of the classes only."""

import torch
import torch.nn.functional as F
from mmdet.models.losses import weight_reduce_loss
from mmdet.registry import MODELS
from mmengine.dist import get_rank
from torch import Tensor, nn

from .image_counts import CountSource, load_image_counts


def federated_bce(cls_score: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
    """FP32 cross entropy (n, ) of RoIs' labels (n, ), summed over k classes.

    Logits (n, k) are those of ``classes`` (k, ) only.
    """
    targets = (labels[:, None] == classes[None]).float()
    losses = F.binary_cross_entropy_with_logits(cls_score.float(), targets, reduction='none')
    return losses.sum(dim=1)


def _rank_generator() -> torch.Generator:
    """A generator that follows from torch's seed and the process's rank."""
    rank = get_rank()
    if rank == 0:
        return torch.default_generator
    seed = torch.randint(2**62, ()).item()
    return torch.Generator().manual_seed(seed + rank)


@MODELS.register_module()
class FederatedLoss(nn.Module):
    """Federated loss for box heads with ``num_classes + 1`` logits.

    Negatives are trusted for a few classes at a time: those among the labels
    of this call and, up to ``num_sampled_classes``, others drawn without
    replacement with a probability proportional to ``images^freq_power``. The
    background takes one of the places if it is among the labels. Every call
    draws anew, on the CPU, with one device-host sync, and so does every
    process of a distributed run. The loss is the sum over RoIs and chosen
    classes, divided by the number of RoIs. The logit of the background is
    never used.

    Args:
        num_sampled_classes: Number of classes; more if more appear. None
            takes all: the plain sigmoid cross entropy.
        cat_freq: Images of each class, see :func:`load_image_counts`. Classes
            without any image are not drawn. None draws uniformly.
        freq_power: Exponent of the images.
        use_sigmoid: Only True is supported.
        prior_prob: Probability of every class at the start of training, for
            heads that ask for it.
        reduction: 'none' (one number for each RoI), 'mean' or 'sum'.

    Raises:
        ValueError: If an argument is out of its range.

    Source: CenterNet2 paper (arXiv 2103.07461), experiments on LVIS;
    docs/differences.md, 32 and 33.
    """

    # What mmdet's box heads ask a loss with its own activation for.
    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = True

    def __init__(
        self,
        num_sampled_classes: int | None = 50,
        cat_freq: CountSource | None = 'lvis_v1',
        freq_power: float = 0.5,
        use_sigmoid: bool = True,
        prior_prob: float = 0.01,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not use_sigmoid:
            raise ValueError(
                'FederatedLoss needs use_sigmoid=True; a softmax over the chosen classes would be '
                "dict(type='CrossEntropyLoss', use_sigmoid=False)"
            )
        if num_sampled_classes is not None and num_sampled_classes < 1:
            raise ValueError(
                f'num_sampled_classes must be 1 or more, or None for all, got {num_sampled_classes}'
            )
        if not 0 < prior_prob < 1:
            raise ValueError(f'prior_prob must be between 0 and 1, got {prior_prob}')
        self.num_sampled_classes = num_sampled_classes
        self.prior_prob = prior_prob
        self.use_sigmoid = True
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.class_weights = None
        if cat_freq is not None and num_sampled_classes is not None:
            counts = torch.tensor(load_image_counts(cat_freq), dtype=torch.float32, device='cpu')
            self.class_weights = torch.where(counts > 0, counts**freq_power, 0.0)

    def get_cls_channels(self, num_classes: int) -> int:
        """Number of logits: one for the background, last, though unused.

        Raises:
            ValueError: If ``cat_freq`` is for another number of classes.
        """
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(
                f'FederatedLoss: cat_freq has {len(self.class_weights)} classes, the box head '
                f'{num_classes}: set cat_freq to the image counts of your data set '
                '(tools/dataset_converters/lvis_image_counts.py makes them) or to None'
            )
        return num_classes + 1

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Probabilities, shape (n, C + 1); the last column means nothing."""
        return cls_score.sigmoid()

    def get_accuracy(
        self, cls_score: Tensor, labels: Tensor, classes: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``acc``, percentage (1, ) of foreground RoIs whose best class is right.

        Args are those of :meth:`forward`; with ``classes``, the best class
        **of those** counts, a figure that is easier to reach.
        """
        if classes is None:
            cls_score = cls_score[:, :-1]
            classes = torch.arange(cls_score.size(1), device=labels.device)
        if not len(classes):  # then there is no foreground either
            return dict(acc=cls_score.new_zeros(1))
        correct = classes[cls_score.detach().argmax(dim=1)] == labels
        num_foreground = torch.isin(labels, classes).sum().clamp(min=1)
        return dict(acc=(100.0 * correct.sum() / num_foreground).reshape(1))

    def sample_classes(self, labels: Tensor, num_classes: int) -> Tensor:
        """Choose the classes of one call.

        Args:
            labels: Label of each RoI, C for background, shape (n, ).

        Returns:
            Distinct classes below C: those that appeared, then the drawn ones.
        """
        if self.num_sampled_classes is None:
            return torch.arange(num_classes, device=labels.device)
        appeared = labels.cpu().unique()
        missing = self.num_sampled_classes - len(appeared)
        classes = appeared[appeared < num_classes]
        weights = torch.ones(num_classes, device='cpu')
        if self.class_weights is not None:
            weights = self.class_weights.clone()
        weights[classes] = 0
        missing = min(missing, int(weights.count_nonzero()))
        if missing > 0:
            drawn = weights.multinomial(missing, generator=_rank_generator())
            classes = torch.cat([classes, drawn])
        return classes.to(labels.device, non_blocking=True)

    def forward(
        self,
        cls_score: Tensor,
        labels: Tensor,
        label_weights: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
        classes: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss in FP32.

        Args:
            cls_score: Logits, background last, shape (n, C + 1); with
                ``classes`` only those of these classes, shape (n, k).
            labels: Label of each RoI, C for background, shape (n, ).
            label_weights: Weight of each RoI, shape (n, ).
            avg_factor: Divisor of the mean. Defaults to the number of RoIs.
            reduction_override: In place of ``reduction``.
            classes: From :meth:`sample_classes`, shape (k, ); by default
                sampled here.
        """
        reduction = reduction_override or self.reduction
        if reduction == 'mean' and avg_factor is None:
            avg_factor = max(len(labels), 1)
        if classes is None:
            classes = self.sample_classes(labels, cls_score.size(1) - 1)
            cls_score = cls_score.index_select(1, classes)
        loss = federated_bce(cls_score, labels, classes)
        return self.loss_weight * weight_reduce_loss(loss, label_weights, reduction, avg_factor)
