"""Finite losses whatever boxes training meets; without area they take no part.

``FUZZ_BATCHES`` in the environment sets the number of random batches.
"""

import os
from functools import cache

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from mmdet_centernet2.models.roi_heads.centernet2_roi_head import prepare_gt
from tests.paths import CONFIGS

FAMILIES = {
    'one-stage': 'centernet/centernet_r50-caffe_fpn_ms-1x_coco.py',
    'cascade': 'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py',
    'single': 'centernet2/centernet2-faster_r50-caffe_fpn_ms-1x_coco.py',
    'federated': 'centernet2/centernet2-fed_r50-caffe_fpn_ms-rfs-1x_lvis-v1.py',
    'mask': 'centernet2/centernet2-mask_dla34_crop640-8x_nuimages.py',
}
DTYPES = (torch.float32, torch.bfloat16)
NUM_BATCHES = int(os.environ.get('FUZZ_BATCHES', 300))
CHANNELS, NUM_CLASSES = 8, 5
HEIGHT, WIDTH = 64, 96


def set_everywhere(cfg, **values) -> None:
    """Set keys wherever a nested config has them."""
    for value in cfg.values() if isinstance(cfg, dict) else cfg:
        if isinstance(value, (dict, list)):
            set_everywhere(value, **values)
    if isinstance(cfg, dict):
        cfg.update({key: value for key, value in values.items() if key in cfg})


@cache
def build(family: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A detector with tiny heads, and its strides; it takes features for images."""
    cfg = Config.fromfile(CONFIGS / FAMILIES[family]).model.to_dict()
    cfg['backbone'], cfg['neck'] = dict(type='ResNet', depth=18, num_stages=1, strides=(1,)), None
    cfg['backbone'].update(dilations=(1,), out_indices=(0,))
    head = cfg['bbox_head'] if family == 'one-stage' else cfg['rpn_head']
    set_everywhere(cfg, in_channels=CHANNELS, conv_out_channels=CHANNELS, fc_out_channels=16)
    set_everywhere(cfg, stacked_convs=1, num_convs=1, num=64, nms_pre=60, max_per_img=40)
    set_everywhere(cfg, num_classes=NUM_CLASSES, cat_freq=[1, 2, 3, 4, 5], num_sampled_classes=3)
    set_everywhere(cfg, out_channels=CHANNELS)
    head['norm_cfg'] = dict(type='GN', num_groups=2)
    if family != 'one-stage':
        head.pop('num_classes', None)
    model = MODELS.build(Config(dict(model=cfg)).model)
    model.init_weights()
    model.extract_feat = lambda features: features
    return model.train(), tuple(head['strides'])


def random_boxes(rng: np.random.Generator) -> list[list[float]]:
    """Up to eight boxes of all kinds, none in every fourth image."""
    boxes: list[list[float]] = []
    for kind in rng.choice(9, size=rng.integers(0, 9) * (rng.random() > 0.25)):
        x, y = rng.uniform(-10, WIDTH), rng.uniform(-10, HEIGHT)
        w, h = rng.uniform(1, WIDTH), rng.uniform(1, HEIGHT)
        if kind == 1:
            w = 0
        elif kind == 2:
            h = 0
        elif kind == 3:  # a point, on a cell's centre
            x, y, w, h = 12, 20, 0, 0
        elif kind == 4:
            w, h = 10 ** rng.uniform(-6, 0, 2)
        elif kind == 5:
            x, y, w, h = -(10 ** rng.uniform(1, 3)), -5, *10 ** rng.uniform(2, 3.3, 2)
        elif kind == 6:
            x, y = rng.choice([-500, 500], 2)
        elif kind == 7:
            w, h = -w, h
        boxes.append([x, y, x + w, y + h])
        if kind == 8:
            boxes.append(boxes[rng.integers(len(boxes))])
    return boxes


def sample(boxes: list[list[float]], labels: np.ndarray) -> DetDataSample:
    shape = (HEIGHT, WIDTH)
    meta = dict(img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape)
    data_sample = DetDataSample(metainfo=dict(meta, scale_factor=(1.0, 1.0)))
    data_sample.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        labels=torch.as_tensor(labels),
        masks=BitmapMasks(np.ones((len(boxes), *shape), np.uint8), *shape),
    )
    data_sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    return data_sample


def features(strides: tuple[int, ...], seed: int, batch: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(batch, CHANNELS, -(-HEIGHT // s), -(-WIDTH // s)) for s in strides]
    return [torch.randn(size, generator=generator) for size in sizes]


def step(family: str, images: list, seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Losses and gradients of a batch, by name."""
    model, strides = build(family)
    model.zero_grad()
    torch.manual_seed(seed)
    with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        losses = model.loss(
            features(strides, seed, len(images)), [sample(*image) for image in images]
        )
    found = {
        name: sum(value) if isinstance(value, list) else value for name, value in losses.items()
    }
    sum(v.sum() for k, v in found.items() if 'loss' in k).backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {k: v.detach().clone() for k, v in (found | grads).items()}


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('family', FAMILIES)
def test_random_batches_give_finite_losses_and_gradients(family, dtype):
    rng = np.random.default_rng(list(FAMILIES).index(family))
    for seed in range(-(-NUM_BATCHES // (len(FAMILIES) * len(DTYPES)))):
        images = []
        for boxes in (random_boxes(rng), random_boxes(rng)):
            images.append((boxes, rng.integers(NUM_CLASSES, size=len(boxes))))
        for name, value in step(family, images, seed, dtype).items():
            assert value.isfinite().all(), (name, seed, images)


@pytest.mark.parametrize('family', FAMILIES)
def test_boxes_without_area_change_nothing(family):
    boxes = [[10.0, 12, 60, 60], [50, 20, 90, 60]]
    flat = [[12.0, 20, 12, 20], [5, 5, 5, 50], [5, 5, 50, 5], [40, 40, 30, 50]]
    labels = np.array([1, 2, 0, 3, 4, 0])
    with_flat = step(
        family, [(flat + boxes, labels[[2, 3, 4, 5, 0, 1]]), (flat, labels[2:])], 0, torch.float32
    )
    without = step(family, [(boxes, labels[:2]), ([], labels[:0])], 0, torch.float32)
    assert with_flat.keys() == without.keys()
    for name, value in without.items():
        torch.testing.assert_close(with_flat[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_equal_boxes_take_the_first_label_in_linear_memory():
    """A square of 30,000 boxes would take 3.6 GB."""
    boxes = np.random.default_rng(0).integers(0, 40, (30_000, 2))
    boxes = np.concatenate([boxes, boxes + 1], 1)
    seen: dict[tuple, int] = {}
    wanted = [seen.setdefault(tuple(box), i) for i, box in enumerate(boxes.tolist())]
    gt = InstanceData(bboxes=torch.tensor(boxes).float(), labels=torch.arange(len(boxes)))
    data_sample = DetDataSample(gt_instances=gt)
    (found,) = prepare_gt([data_sample])
    assert found.gt_instances.labels.tolist() == wanted
    assert torch.equal(gt.labels, torch.arange(len(boxes)))


def test_ground_truth_without_fault_is_not_copied():
    image = ([[10.0, 12, 60, 60], [50, 20, 90, 60]], np.array([1, 2]))
    data_sample = sample(*image)
    assert prepare_gt([data_sample])[0].gt_instances is data_sample.gt_instances
