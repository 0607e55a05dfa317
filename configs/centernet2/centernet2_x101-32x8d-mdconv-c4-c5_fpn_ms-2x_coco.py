# CenterNet2_X101-DCN_2x of the original: COCO val2017 box mAP 49.9.
_base_ = [
    '../_base_/models/centernet2_r50-caffe_fpn.py',
    '../_base_/datasets/coco_ms.py',
    '../_base_/schedules/schedule_1x.py',
]
custom_imports = dict(imports=['mmdet_centernet2'])

# -----numbers-----
max_iters = 180000

# -----model-----
model = dict(
    data_preprocessor=dict(std=[57.375, 57.12, 58.395]),
    backbone=dict(
        _delete_=True,
        type='ResNeXt',
        depth=101,
        groups=32,
        base_width=8,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        dcn=dict(
            type='ExactDeformConv',
            deform_groups=1,
            fallback_on_stride=False),
        stage_with_dcn=(False, False, True, True),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='open-mmlab://detectron2/resnext101_32x8d')),
    rpn_head=dict(dcn_on_last_conv=True),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[8, 16])))

# -----data: any short edge from 480 to 960-----
train_pipeline = [
    _base_.load_image,
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='RandomChoiceResize',
        scales=list(range(480, 960 + 1)),
        resize_type='ResizeShortestEdge',
        max_size=1333,
        backend='pillow'),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='FilterAnnotations',
        min_gt_bbox_wh=(1e-5, 1e-5),
        keep_empty=False),
    dict(type='PackDetInputs')
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# -----schedule-----
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.00025,
        by_epoch=False,
        begin=0,
        end=4001),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[120000, 160000],
        gamma=0.1)
]
