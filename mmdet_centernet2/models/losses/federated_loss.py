"""Sigmoid cross entropy over some of the classes only."""
from typing import Dict, Optional

import torch
import torch.nn.functional as F
from mmdet.models.losses import weight_reduce_loss
from mmdet.registry import MODELS
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


@MODELS.register_module()
class FederatedLoss(nn.Module):
    """Federated loss for box heads with ``num_classes + 1`` logits.

    Negatives are trusted for a few classes at a time: those among the labels
    of this call and, up to ``num_sampled_classes``, others drawn without
    replacement with a probability proportional to ``images^freq_power``. The
    background takes one of the places if it is among the labels. Classes are
    drawn anew in every call, that is for each process, stage and iteration.
    The loss is the sum over RoIs and chosen classes, divided by the number of
    RoIs, not by that of classes. The logit of the background is never used.

    Only the chosen columns are read, so memory and time hardly grow with the
    number of classes. The draw is made on the CPU, at the price of one wait
    for the labels. No tensor is added to the state dict.

    Args:
        num_sampled_classes (int, optional): Number of classes, background
            included if it appears; more if more appear. None takes all
            classes, which is the plain sigmoid cross entropy. Defaults to 50.
        cat_freq (str, Path or Sequence[float], optional): Images of each
            class, see :func:`load_image_counts`. Classes without any image
            are not drawn. None draws uniformly. Defaults to 'lvis_v1'.
        freq_power (float): Exponent of the images. Defaults to 0.5.
        use_sigmoid (bool): Only True is supported: with a softmax over the
            classes that appeared nothing would change (Q34).
        prior_prob (float): Probability of every class at the start of
            training, for heads that ask for it. Defaults to 0.01.
        reduction (str): 'none' (one number for each RoI), 'mean' or 'sum'.
            Defaults to 'mean'.
        loss_weight (float): Defaults to 1.0.

    Raises:
        ValueError: If an argument is out of its range.

    Source: CenterNet2 paper, LVIS experiments; spec §4.4, Q33, Q34, Q60.
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

    @staticmethod
    def _draw_weights(cat_freq: CountSource, freq_power: float) -> Tensor:
        """Relative probability of each class to be drawn, shape (C, ).

        It stays on the CPU, where classes are drawn; not a buffer, since
        checkpoints have no use for it (Q60).
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

    def get_accuracy(self, cls_score: Tensor,
                     labels: Tensor) -> Dict[str, Tensor]:
        """Share of the foreground RoIs whose best class is right.

        Args:
            cls_score (Tensor): Shape (n, C + 1).
            labels (Tensor): Shape (n, ), C for background.

        Returns:
            dict[str, Tensor]: ``acc`` in percent, shape (1, ); zero without
            foreground.
        """
        num_classes = cls_score.size(1) - 1
        correct = cls_score.detach()[:, :num_classes].argmax(dim=1) == labels
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
        if self.num_sampled_classes is None:
            return torch.arange(num_classes, device=labels.device)
        chosen = labels.cpu().unique()
        if len(chosen) and not 0 <= chosen[0] <= chosen[-1] <= num_classes:
            raise ValueError(f'labels must be in [0, {num_classes}], got '
                             f'{int(chosen[0])} to {int(chosen[-1])}')
        chosen = torch.cat([chosen, self._draw_classes(chosen, num_classes)])
        return chosen[chosen < num_classes].to(labels.device)

    def _draw_classes(self, appeared: Tensor, num_classes: int) -> Tensor:
        """Draw what is missing, background and ``appeared`` apart."""
        weights = torch.ones(num_classes + 1, device='cpu')
        if self.class_weights is not None:
            weights[:num_classes] = self.class_weights
        weights[num_classes] = 0
        weights[appeared] = 0
        missing = min(self.num_sampled_classes - len(appeared),
                      int(weights.count_nonzero()))
        if missing <= 0:
            return appeared[:0]
        return weights.multinomial(missing, replacement=False)

    def forward(self,
                cls_score: Tensor,
                labels: Tensor,
                label_weights: Optional[Tensor] = None,
                avg_factor: Optional[float] = None,
                reduction_override: Optional[str] = None) -> Tensor:
        """Compute the loss in FP32.

        Args:
            cls_score (Tensor): Logits, background last, shape (n, C + 1).
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
        columns = self.sample_classes(labels, cls_score.size(1) - 1)
        loss = federated_bce(
            cls_score.index_select(1, columns), labels, columns)
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
