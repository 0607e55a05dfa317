# CenterNet2_DLA-BiFPN-P3_4x of the original: COCO val2017 box mAP 43.8.
_base_ = [
    '../_base_/models/centernet2_r50-caffe_fpn.py',
    '../_base_/datasets/coco_ms.py',
    '../_base_/schedules/schedule_1x.py',
]
custom_imports = dict(imports=['mmdet_centernet2'])

# -----numbers-----
strides = [8, 16, 32]
max_iters = 360000

# -----model: unscaled BGR, see docs/differences.md, 8-----
model = dict(
    data_preprocessor=dict(pad_size_divisor=128),
    backbone=dict(
        _delete_=True,
        type='DLA',
        depth=34,
        out_indices=(3, 4, 5),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/dla34_mmdet.pth')),
    neck=dict(
        _delete_=True,
        type='FCOSBiFPN',
        in_channels=[128, 256, 512],
        out_channels=160,
        num_outs=3,
        num_cells=4,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True)),
    rpn_head=dict(
        in_channels=160,
        strides=strides,
        regress_ranges=[(0, 64), (48, 192), (128, 1e6)]),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=160, featmap_strides=strides),
        bbox_head=dict(in_channels=160)),
    test_cfg=dict(rpn=dict(max_per_img=128)))

# -----data-----
train_pipeline = [
    _base_.load_image,
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='RandomChoiceResize',
        scales=[
            256, 288, 320, 352, 384, 416, 448, 480, 512, 544, 576, 608
        ],
        resize_type='ResizeShortestEdge',
        max_size=900,
        backend='pillow'),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='FilterAnnotations',
        min_gt_bbox_wh=(1e-5, 1e-5),
        keep_empty=False),
    dict(type='PackDetInputs')
]
test_pipeline = [
    _base_.load_image,
    dict(
        type='Resize',
        _scope_='mmdet_centernet2',
        scale=(736, 512),
        keep_ratio=True,
        backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor'))
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

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
        milestones=[300000, 340000],
        gamma=0.1)
]
