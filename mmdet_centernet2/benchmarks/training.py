"""Training steps of a detector, to be timed."""
from __future__ import annotations

import contextlib
from typing import List

import torch
from torch import nn

from mmdet_centernet2.benchmarks.scenes import Size, image_batch

#: Small, so that a hundred steps leave the weights, and with them the work,
#: about as they were.
LEARNING_RATE = 1e-6


class TrainingStep:
    """Loss, backward pass and an SGD step on one batch; each call is one.

    Args:
        model (nn.Module): A detector; it is put into training mode.
        size (tuple[int, int]): Height and width of the images in pixels.
        num_objects (int): In each image.
        batch (int): Number of images.
        device (str): Where it works.
        amp (torch.dtype, optional): Type for autocast; None is FP32.
        num_classes (int): Of the detector.
    """

    def __init__(self,
                 model: nn.Module,
                 size: Size,
                 num_objects: int,
                 batch: int = 1,
                 device: str = 'cpu',
                 amp: torch.dtype | None = None,
                 num_classes: int = 80) -> None:
        self.model = model.train()
        self.images, self.samples = image_batch(
            size, batch, num_objects, num_classes, device)
        self.device = device
        self.amp = amp
        self.optimizer = torch.optim.SGD(
            (p for p in model.parameters() if p.requires_grad),
            lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4)
        # float16 needs it, bfloat16 does not
        self.scaler = torch.amp.GradScaler(
            device, enabled=amp == torch.float16)

    def __call__(self) -> torch.Tensor:
        """Do one step.

        Returns:
            Tensor: The total loss, a scalar.
        """
        with self._autocast():
            losses = self.model.loss(self.images, self.samples)
        loss, _ = self.model.parse_losses(losses)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def release(self) -> None:
        """Drop the gradients, which a step holds until the next one."""
        self.optimizer.zero_grad()

    def _autocast(self):
        if self.amp is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device, self.amp)


def compile_parts(model: nn.Module, **options) -> nn.Module:
    """Compile backbone, neck and first stage, where most arithmetic is.

    Args:
        model (nn.Module): A detector of two stages; changed in place.
        **options: Of ``torch.compile``.

    Returns:
        nn.Module: ``model``.
    """
    for part in (model.backbone, model.neck, model.rpn_head):
        part.compile(**options)
    return model


def rois_per_stage(step: TrainingStep) -> List[int]:
    """RoIs that each box head of the second stage was trained on in a step.

    Args:
        step (TrainingStep): Of a detector of two stages; one step is done.
    """
    if not hasattr(step.model, 'roi_head'):
        return []
    heads = step.model.roi_head.bbox_head
    heads = heads if isinstance(heads, nn.ModuleList) else [heads]
    counts: List[int] = []
    hooks = [  # every box head has the layer, and calls it once
        head.shared_fcs[0].register_forward_hook(
            lambda module, inputs, output: counts.append(len(inputs[0])))
        for head in heads
    ]
    step()
    for hook in hooks:
        hook.remove()
    return counts
