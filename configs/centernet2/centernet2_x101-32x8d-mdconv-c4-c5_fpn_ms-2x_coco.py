# CenterNet2_X101-DCN_2x of the original: COCO val2017 box mAP 49.9.
_base_ = [
    '../_base_/models/centernet2.py',
    '../_base_/backbones/r50-caffe_fpn.py',
    '../_base_/datasets/coco_ms.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

# -----model-----
model = dict(
    data_preprocessor=dict(std=[57.375, 57.12, 58.395]),
    backbone=dict(
        _base_.backbone,
        type='ResNeXt',
        depth=101,
        groups=32,
        base_width=8,
        style='pytorch',
        dcn=dict(type='ExactDeformConv', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, False, True, True),
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnext101_32x8d'),
    ),
    neck=_base_.neck,
    rpn_head=dict(dcn_on_last_conv=True),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[8, 16])),
)

# -----data: any short edge from 480 to 960-----
train_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(_base_.resize_short_edge, scales=list(range(480, 960 + 1))),
    *_base_.flip_and_pack,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# -----schedule-----
max_iters = 180000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [_base_.warmup, dict(_base_.steps, end=max_iters, milestones=[120000, 160000])]
