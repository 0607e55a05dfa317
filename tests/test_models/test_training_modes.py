"""Half precision, channels-last, checkpointing and compiling in training.

One small model of each family: ResNet with FPN and a cascade, the same with
the federated loss, DLA with BiFPN and a cascade, and the one-stage detectors,
of which the DLA's has deformable convolutions.
"""

import copy
import functools

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from mmdet_centernet2.engine.hooks.cpu_speed import use_channels_last
from tests.paths import CONFIGS

pytestmark = pytest.mark.slow

SIZE = (64, 96)
NUM_CLASSES = 3
BOXES = ((10.0, 12.0, 60.0, 60.0), (50.0, 20.0, 90.0, 60.0), (20.0, 30.0, 44.0, 50.0))
RESNET = {
    'backbone.depth': 18,
    'backbone.style': 'pytorch',
    'backbone.base_channels': 16,
    'neck.in_channels': [32, 64, 128],
    'neck.out_channels': 32,
    'rpn_head.in_channels': 32,
    'rpn_head.norm_cfg.num_groups': 8,
    'rpn_head.stacked_convs': 2,
}
SECOND_STAGE = {
    'roi_head.bbox_roi_extractor.out_channels': 32,
    'roi_head.bbox_head.in_channels': 32,
    'roi_head.bbox_head.fc_out_channels': 64,
    'roi_head.bbox_head.num_classes': NUM_CLASSES,
    'train_cfg.rcnn.0.sampler.num': 64,
}
BIFPN = {
    'neck.out_channels': 32,
    'neck.num_cells': 1,
    'rpn_head.in_channels': 32,
    'rpn_head.stacked_convs': 1,
}
FAMILIES = {
    'flagship': ('centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py', {**RESNET, **SECOND_STAGE}),
    'federated': (
        'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py',
        {
            **RESNET,
            **SECOND_STAGE,
            'roi_head.bbox_head.loss_cls': dict(
                _delete_=True, type='FederatedLoss', num_sampled_classes=3, cat_freq=[1, 2, 3]
            ),
        },
    ),
    'dla-bifpn': (
        'centernet2/centernet2_dla34_bifpn-p5_crop640-16x_coco.py',
        {**BIFPN, **SECOND_STAGE},
    ),
    'one-stage': (
        'centernet/centernet_r50-caffe_fpn_ms-1x_coco.py',
        {key.replace('rpn_head', 'bbox_head'): value for key, value in RESNET.items()}
        | {'bbox_head.num_classes': NUM_CLASSES},
    ),
    'deformable': (
        'centernet/centernet-s4_dla34_crop640-8x_coco.py',
        {'bbox_head.num_classes': NUM_CLASSES},
    ),
}


def build(family: str, **options) -> nn.Module:
    """A small model with weights that a seed fixes."""
    path, changes = FAMILIES[family]
    cfg = Config(dict(model=Config.fromfile(CONFIGS / path).model.to_dict()))
    changes = {
        **changes,
        'backbone.init_cfg': None,
        **{key.replace('__', '.'): value for key, value in options.items()},
    }
    cfg.merge_from_dict({f'model.{k}': v for k, v in changes.items()})
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.train()


def batch(dtype: torch.dtype) -> dict[str, object]:
    """Two images, as a data preprocessor gives them."""
    samples = []
    for count in (3, 1):
        sample = DetDataSample(
            metainfo=dict(
                img_shape=SIZE,
                pad_shape=SIZE,
                batch_input_shape=SIZE,
                ori_shape=SIZE,
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(BOXES[:count], dtype=dtype), labels=torch.arange(count)
        )
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long()
        )
        samples.append(sample)
    images = 50 * torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    return dict(inputs=images.to(dtype), data_samples=samples)


def losses_of(model: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    losses = model(**batch(dtype), mode='loss')
    return {k: v for k, v in losses.items() if 'loss' in k}


def total(losses) -> torch.Tensor:
    return sum(torch.as_tensor(v).sum() for v in losses.values())


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    'family, dtype',
    [(family, torch.bfloat16) for family in FAMILIES]
    + [('flagship', torch.float16), ('one-stage', torch.float16)],
)
def test_half_precision(family, dtype):
    """Losses near those of FP32, in FP32; a scaled step that is finite."""
    model = build(family)
    with torch.no_grad():
        exact = losses_of(model)
    with torch.autocast('cpu', dtype):
        losses = losses_of(model)
    assert losses.keys() == exact.keys()
    for name, loss in losses.items():
        assert loss.dtype == torch.float32, name
    if family != 'federated':  # its stages draw classes at random
        assert total(losses).item() == pytest.approx(total(exact).item(), rel=0.05)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler('cpu', init_scale=64.0)
    scaler.scale(total(losses)).backward()
    grads = gradients(model)
    assert grads and all(g.dtype == torch.float32 for g in grads.values())
    scaler.unscale_(optimizer)
    assert all(g.isfinite().all() for g in grads.values())
    before = copy.deepcopy(model.state_dict())
    scaler.step(optimizer)
    assert any(not torch.equal(before[n], p) for n, p in model.named_parameters())


def step(model: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """In FP64: untrained batch norms of so few cells multiply rounding."""
    losses = losses_of(model.double(), torch.float64)
    total(losses).backward()
    return losses, gradients(model)


@functools.cache
def plain_step(family: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return step(build(family))


def assert_same_step(model: nn.Module, family: str) -> None:
    for found, wanted in zip(step(model), plain_step(family)):
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize('family', FAMILIES)
def test_channels_last(family):
    model = build(family)
    use_channels_last(model)
    assert_same_step(model, family)


@pytest.mark.parametrize(
    'family, options',
    [
        ('flagship', dict(backbone__with_cp=True)),
        ('one-stage', dict(backbone__with_cp=True)),
        ('dla-bifpn', dict(backbone__with_cp=True, neck__with_cp=True)),
    ],
)
def test_checkpointing(family, options):
    assert_same_step(build(family, **options), family)


@pytest.mark.parametrize('family, backend', [('dla-bifpn', 'eager'), ('one-stage', 'aot_eager')])
def test_compiled(family, backend):
    """What the compiler captures; code is not generated here.

    The flagship is compiled by the tests of the training tool.
    """
    torch._dynamo.reset()
    model = build(family)
    compiled = losses_of(torch.compile(model, backend=backend))
    plain = losses_of(build(family))
    total(compiled).backward()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-4, atol=1e-5)
    assert all(g.isfinite().all() for g in gradients(model).values())
