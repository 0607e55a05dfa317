"""State dicts with the original's names and shapes, and next to no memory."""

import gzip
import json
from functools import cache

import torch
from torch import Tensor

from tests.paths import CONFIGS, DATA

FLAGSHIP = 'CenterNet2_R50_1x'
FLAGSHIP_CONFIG = CONFIGS / 'centernet2' / 'centernet2_r50-caffe_fpn_ms-1x_coco.py'


@cache
def original_shapes() -> dict[str, dict[str, list[int]]]:
    """Model of the original -> tensor name -> shape."""
    path = DATA / 'original_state_dicts.json.gz'
    with gzip.open(path, 'rt', encoding='utf-8') as file:
        return json.load(file)


def synthetic(model: str) -> dict[str, Tensor]:
    """A state dict of the original, each tensor with a value of its own.

    A tensor holds one number, seen in every element through zero strides:
    full shapes without full memory.
    """
    return {
        name: _constant(number, name, shape)
        for number, (name, shape) in enumerate(original_shapes()[model].items(), start=1)
    }


def synthetic_backbone(model: str) -> dict[str, Tensor]:
    """Its backbone alone in detectron2's names, without deformable convolutions."""
    prefix = 'backbone.bottom_up.'
    return {
        name.removeprefix(prefix): value
        for name, value in synthetic(model).items()
        if name.startswith(prefix) and 'offset' not in name
    }


def _constant(number: int, name: str, shape: list[int]) -> Tensor:
    if name.endswith('num_batches_tracked'):
        return torch.tensor(number)
    return torch.full((1,) * len(shape), float(number)).expand(shape)


def random_state(model: str, seed: int = 0) -> dict[str, Tensor]:
    """A state dict of the original with random values, in full."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator)
        for name, shape in original_shapes()[model].items()
    }


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether names, order, types, shapes and bits are all the same."""
    if list(first) != list(second):
        return False
    return all(_same_bits(first[name], second[name]) for name in first)


def _same_bits(first: Tensor, second: Tensor) -> bool:
    return (
        first.dtype == second.dtype
        and first.shape == second.shape
        and torch.equal(_bits(first), _bits(second))
    )


def _bits(value: Tensor) -> Tensor:
    """The bytes of a tensor; of one element where all are one."""
    steps = zip(value.shape, value.stride())
    if not any(step for size, step in steps if size > 1):
        value = value[(0,) * value.dim()]
    flat = torch.empty(value.numel(), dtype=value.dtype)
    return flat.copy_(value.reshape(-1)).view(torch.uint8)
