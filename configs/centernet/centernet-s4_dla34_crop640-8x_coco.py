# CenterNet-S4_DLA_8x of the original: COCO val2017 box mAP 42.5.
_base_ = [
    '../_base_/models/centernet.py',
    '../_base_/backbones/dla34.py',
    '../_base_/datasets/coco_crop.py',
    '../_base_/schedules/schedule_cosine.py',
    '../_base_/default_runtime.py',
]

# -----model: BGR-----
model = dict(
    data_preprocessor=dict(std=[57.375, 57.12, 58.395]),
    backbone=_base_.stride4_backbone,
    neck=_base_.stride4_neck,
    bbox_head=dict(
        in_channels=64,
        stacked_convs=1,
        strides=[4],
        regress_ranges=[(0, 1e6)],
        loss_bbox=dict(loss_weight=1.0),
    ),
)

# -----schedule: 128 images, 8 GPUs with 16 each-----
train_dataloader = dict(batch_size=16, num_workers=8)
max_iters = 90000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [dict(_base_.cosine, max_iters=max_iters, warmup_iters=1000, warmup_factor=0.001)]
auto_scale_lr = dict(base_batch_size=128)
