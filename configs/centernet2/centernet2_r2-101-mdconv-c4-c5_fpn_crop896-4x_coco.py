# CenterNet2_R2-101-DCN_896_4x of the original: COCO val2017 box mAP 51.2.
_base_ = [
    '../_base_/models/centernet2_r50-caffe_fpn.py',
    '../_base_/datasets/coco_crop.py',
    '../_base_/schedules/schedule_cosine.py',
]
custom_imports = dict(imports=['mmdet_centernet2'])

# -----numbers-----
max_iters = 180000

# -----model: BGR images with RGB statistics, see docs/differences.md, 7-----
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        _delete_=True,
        type='CaffeRes2Net',
        depth=101,
        scales=4,
        base_width=26,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        dcn=dict(
            type='ExactDeformConv',
            deform_groups=1,
            fallback_on_stride=False),
        stage_with_dcn=(False, False, True, True),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='open-mmlab://res2net101_v1d_26w_4s')),
    rpn_head=dict(dcn_on_last_conv=True),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[8, 16])))

# -----data-----
train_pipeline = [
    dict(_base_.load_image, lazy=True),  # the crop takes what it needs
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='EfficientDetResizeCrop',
        size=896,
        scale_range=(0.1, 2.0),
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
        scale=(1333, 800),
        keep_ratio=True,
        backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor'))
]

# -----schedule: 32 images, 8 GPUs with 4 each-----
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(
        type='WarmupCosineLR',
        max_iters=max_iters,
        warmup_iters=4000,
        warmup_factor=0.00025)
]
optim_wrapper = dict(optimizer=dict(lr=0.04))
auto_scale_lr = dict(base_batch_size=32)
