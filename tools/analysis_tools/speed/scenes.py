"""Pictures and objects to measure with, the same in every run."""

from __future__ import annotations

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

Size = tuple[int, int]  #: Height and width in pixels.
TEST_SIZE = (800, 1344)  #: The network input of a photograph of COCO at test time.
QUICK_SIZE = (96, 128)  #: Instead of it, for trying out.
STRIDES = (8, 16, 32, 64, 128)


def random_boxes(num: int, size: Size, seed: int = 0) -> Tensor:
    """Boxes of all sizes inside an image, xyxy in pixels, shape (num, 4).

    Sides are drawn evenly in their logarithm, from 8 pixels to half of the
    image. As in photographs, crowds have smaller objects: the largest side
    shrinks with the root of the number.
    """
    rng = np.random.RandomState(seed)
    largest = max(min(size) / 2 / max(num / 7, 1) ** 0.5, 32.0)
    sides = np.exp(rng.uniform(np.log(8), np.log(largest), (num, 2)))
    limits = np.array([size[1], size[0]])
    top_left = rng.uniform(0, 1, (num, 2)) * (limits - sides)
    return torch.tensor(np.concatenate([top_left, top_left + sides], 1), dtype=torch.float32)


def random_labels(num: int, num_classes: int, seed: int = 0) -> Tensor:
    """Classes, all as likely, shape (num, )."""
    rng = np.random.RandomState(seed + 1)
    return torch.tensor(rng.randint(num_classes, size=num), dtype=torch.long)


def image_batch(
    size: Size, batch: int = 1, num_objects: int = 0, device: str = 'cpu'
) -> tuple[Tensor, list[DetDataSample]]:
    """What ``loss`` and ``predict`` are given; images are noise, (B, 3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, *size, generator=generator)
    samples = []
    for seed in range(batch):
        about = dict(img_id=seed, img_path='', scale_factor=(1.0, 1.0))
        shapes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
        sample = DetDataSample(metainfo={**about, **dict.fromkeys(shapes, size)})
        boxes, labels = random_boxes(num_objects, size, seed), random_labels(num_objects, 80, seed)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
        samples.append(sample.to(device))
    return images.to(device), samples
