"""Every family trains and detects on a GPU as far as devices go: nothing is mixed."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData

from mmdet_centernet2.models.roi_heads import CenterNet2BBoxHead
from tests.paths import CONFIGS
from tests.test_models.operators import Operators
from tests.test_models.pretended_gpu import GPU, OnGPU, counted, pretended_gpu

FAMILIES = [
    'centernet/centernet_r50-caffe_fpn_ms-1x_coco',
    'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco',
    'centernet2/centernet2-faster_r50-caffe_fpn_ms-1x_coco',
    'centernet2/centernet2-fed_r50-caffe_fpn_ms-rfs-1x_lvis-v1',
    'centernet2/centernet2-mask_dla34_crop640-8x_nuimages',
    'centernet2/centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x_coco',
]
SIDE = 64


def build(name: str) -> torch.nn.Module:
    cfg = Config.fromfile(CONFIGS / f'{name}.py').model
    cfg.backbone.init_cfg = None
    if cfg.backbone.get('depth') == 101:
        cfg.backbone.depth = 50
        cfg.neck.num_cells = 1
    if 'roi_head' in cfg:
        cfg.roi_head.bbox_head.fc_out_channels = 16
        cfg.test_cfg.rpn.max_per_img = 8  # of all classes, NMS in one call
        rcnn = cfg.train_cfg.rcnn
        (rcnn[0] if isinstance(rcnn, list) else rcnn).sampler.num = 32
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def batch(num_images: int = 2, all_with_objects: bool = False) -> dict:
    """Images with two objects; if not told otherwise, every second one has none."""
    meta = dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE), scale_factor=(1.0, 1.0))
    samples = []
    for i in range(num_images):
        boxes = [[8, 8, 40, 30], [20, 20, 60, 64]] if all_with_objects or i % 2 == 0 else []
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
            labels=torch.arange(len(boxes)),
            masks=BitmapMasks(np.ones((len(boxes), SIDE, SIDE), np.uint8), SIDE, SIDE),
        )
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0))
        samples.append(sample)
    images = [torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8) for _ in samples]
    return dict(inputs=images, data_samples=samples)


@pytest.mark.slow
@pytest.mark.parametrize('name', FAMILIES)
def test_loss_backward_and_predict(name):
    model = build(name).train()
    with pretended_gpu():
        model.to(GPU)
        assert all(isinstance(p, OnGPU) for p in model.parameters())
        losses, _ = model.parse_losses(model(**model.data_preprocessor(batch(), True), mode='loss'))
        losses.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        assert len(grads) > 20 and all(grad.device == GPU for grad in grads)
        with torch.no_grad():
            found = model.eval().test_step(batch())
        assert all(each.pred_instances.scores.device == GPU for each in found)


@pytest.mark.slow
@pytest.mark.parametrize('name, waits, calls', [(FAMILIES[1], 34, 2030), (FAMILIES[2], 22, 1600)])
def test_waits_and_operators_of_a_training_step(name, waits, calls):
    """With 16 images. 16 waits are for NMS, none for the data."""
    model = build(name).train()
    with pretended_gpu():
        model.to(GPU)
        with counted() as counts:
            data = model.data_preprocessor(batch(16, all_with_objects=True), True)
            model.parse_losses(model(**data, mode='loss'))[0].backward()
    assert counts.waits.count('nms') == 16
    assert len(counts.waits) <= waits, counts.waits
    assert counts.calls <= calls, counts.calls


def test_operators_of_the_optimizer():
    """Clipping and step are a few calls for all parameters, which a GPU gets by default."""
    cfg = Config.fromfile(CONFIGS / f'{FAMILIES[1]}.py').optim_wrapper
    cfg.optimizer.foreach = True  # torch's default on a GPU only
    model = build(FAMILIES[1])
    wrapper = build_optim_wrapper(model, cfg)
    for _ in range(2):  # the first step makes the momentum
        for param in model.parameters():
            param.grad = torch.ones_like(param) if param.requires_grad else None
        with Operators() as operators:
            wrapper.step()
            wrapper.zero_grad()
    assert operators.calls <= 15 and operators.waits == []


def test_counting_sees_what_it_should():
    host = torch.tensor([2.0, 0.0])
    with pretended_gpu():
        with counted() as counts:
            x = host.to(GPU, non_blocking=True)
            x[torch.arange(1, device=GPU)] + 1
        assert counts.waits == [] and counts.calls >= 4
        with counted() as counts:
            host.to(GPU), x.cpu(), x.nonzero(), x[x > 1], x[torch.tensor([0])]
            x.new_tensor([1.0]), x.sum().item()
        assert len(counts.waits) == 7


def test_a_mixture_is_caught(monkeypatch):
    name = 'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco'
    model = build(name).train()
    loss_and_target = CenterNet2BBoxHead.loss_and_target

    def planted(self, cls_score, *args):
        cls_score = cls_score + torch.zeros(cls_score.shape)
        return loss_and_target(self, cls_score, *args)

    monkeypatch.setattr(CenterNet2BBoxHead, 'loss_and_target', planted)
    with pretended_gpu(), pytest.raises(RuntimeError, match='tensors on several devices'):
        model.to(GPU)
        model(**model.data_preprocessor(batch(), True), mode='loss')
