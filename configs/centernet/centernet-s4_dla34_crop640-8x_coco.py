# CenterNet-S4_DLA_8x of the original: COCO val2017 box mAP 42.5.
_base_ = [
    '../_base_/models/centernet_r50-caffe_fpn.py',
    '../_base_/datasets/coco_crop.py',
    '../_base_/schedules/schedule_cosine.py',
]
custom_imports = dict(imports=['mmdet_centernet2'])

# -----numbers-----
max_iters = 90000
base_lr = 0.08

# -----model-----
model = dict(
    data_preprocessor=dict(
        mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395]),
    backbone=dict(
        _delete_=True,
        type='DLA',
        depth=34,
        out_indices=(2, 3, 4, 5),
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/dla34_mmdet.pth')),
    neck=dict(
        _delete_=True,
        type='DLAUpNeck',
        in_channels=[64, 128, 256, 512],
        norm_cfg=dict(type='BN', requires_grad=True)),
    bbox_head=dict(
        in_channels=64,
        stacked_convs=1,
        strides=[4],
        regress_ranges=[(0, 1e6)],
        loss_bbox=dict(loss_weight=1.0)))

# -----schedule: 128 images, 8 GPUs with 16 each-----
train_dataloader = dict(batch_size=16, num_workers=8)
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(
        type='WarmupCosineLR',
        max_iters=max_iters,
        warmup_iters=1000,
        warmup_factor=0.001)
]
optim_wrapper = dict(optimizer=dict(lr=base_lr))
auto_scale_lr = dict(base_batch_size=128)
