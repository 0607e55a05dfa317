"""The new backbones and necks inside detectors of mmdet."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import nn

NORM = dict(type='GN', num_groups=8, requires_grad=True)
DLA = dict(type='DLA', depth=34, out_indices=(3, 4, 5), norm_eval=True)


def bifpn(name: str, levels: int) -> dict:
    return dict(
        type=name,
        in_channels=[128, 256, 512],
        out_channels=16,
        num_outs=levels,
        num_cells=1,
        norm_cfg=NORM,
    )


def fcos(backbone: dict, neck: dict, strides: list) -> dict:
    """FCOS with one convolution in each tower."""
    ends = [2.0**i * 64 for i in range(len(strides) - 1)] + [1e8]
    return dict(
        type='FCOS',
        data_preprocessor=dict(
            type='DetDataPreprocessor', mean=[127.0] * 3, std=[60.0] * 3, pad_size_divisor=32
        ),
        backbone=backbone,
        neck=neck,
        bbox_head=dict(
            type='FCOSHead',
            num_classes=2,
            in_channels=neck.get('out_channels', 64),
            feat_channels=8,
            stacked_convs=1,
            norm_cfg=None,
            strides=strides,
            regress_ranges=list(zip([-1.0] + ends[:-1], ends)),
        ),
        test_cfg=dict(
            nms_pre=10, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5
        ),
    )


def retinanet(backbone: dict, neck: dict, strides: list) -> dict:
    """RetinaNet with one convolution in each tower."""
    model = fcos(backbone, neck, strides)
    model.update(
        type='RetinaNet',
        bbox_head=dict(
            type='RetinaHead',
            num_classes=2,
            in_channels=neck['out_channels'],
            feat_channels=8,
            stacked_convs=1,
            anchor_generator=dict(
                type='AnchorGenerator',
                octave_base_scale=4,
                scales_per_octave=1,
                ratios=[1.0],
                strides=strides,
            ),
        ),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1,
        ),
    )
    return model


DETECTORS = {
    'retinanet, dla, bifpn': retinanet(DLA, bifpn('BiFPN', 5), [8, 16, 32, 64, 128]),
    'fcos, dla, fcos-bifpn': fcos(DLA, bifpn('FCOSBiFPN', 3), [8, 16, 32]),
    'fcos, dla, dla up': fcos(
        {**DLA, 'out_indices': (2, 3, 4, 5)}, dict(type='DLAUpNeck', norm_cfg=dict(type='BN')), [4]
    ),
    'fcos, res2net, bifpn': fcos(
        dict(type='CaffeRes2Net', depth=50, base_channels=16, out_indices=(1, 2, 3)),
        bifpn('BiFPN', 5),
        [8, 16, 32, 64, 128],
    ),
}


@pytest.mark.parametrize('name', DETECTORS)
def test_losses_and_boxes(name: str) -> None:
    """One step: finite losses, gradients in backbone and neck, boxes."""
    model: nn.Module = MODELS.build(ConfigDict(DETECTORS[name]))
    model.init_weights()
    sample = DetDataSample(
        metainfo=dict(img_shape=(70, 90), ori_shape=(70, 90), scale_factor=(1.0, 1.0)),
        gt_instances=InstanceData(
            bboxes=torch.tensor([[10.0, 12.0, 60.0, 58.0], [30.0, 5.0, 80.0, 40.0]]),
            labels=torch.tensor([0, 1]),
        ),
    )
    image = torch.randint(0, 256, (3, 70, 90), dtype=torch.uint8)
    data = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]), True)
    losses = model.train()(**data, mode='loss')
    total, log = model.parse_losses(losses)
    assert torch.isfinite(total)
    assert {'loss_cls', 'loss_bbox'} <= set(log)
    total.backward()
    for part in (model.backbone, model.neck):
        missing = [n for n, p in part.named_parameters() if p.requires_grad and p.grad is None]
        assert not missing
    with torch.no_grad():
        (found,) = model.eval()(**data, mode='predict')
    assert len(found.pred_instances) <= 5
    assert torch.isfinite(found.pred_instances.bboxes).all()
