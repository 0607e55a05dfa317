# CenterNet2_DLA-BiFPN-P3_4x of the original: COCO val2017 box mAP 43.8.
_base_ = [
    '../_base_/models/centernet2.py',
    '../_base_/backbones/dla34.py',
    '../_base_/datasets/coco_ms.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

strides = [8, 16, 32]
# -----model: unscaled BGR, see docs/differences.md, 8-----
model = dict(
    data_preprocessor=dict(pad_size_divisor=128),
    backbone=dict(_base_.backbone, norm_cfg=dict(type='SyncBN', requires_grad=True)),
    neck=dict(_base_.neck, type='FCOSBiFPN', num_outs=3, num_cells=4),
    rpn_head=dict(
        in_channels=160, strides=strides, regress_ranges=[(0, 64), (48, 192), (128, 1e6)]
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=160, featmap_strides=strides),
        bbox_head=dict(in_channels=160),
    ),
    test_cfg=dict(rpn=dict(max_per_img=128)),
)

# -----data-----
train_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(_base_.resize_short_edge, scales=list(range(256, 608 + 1, 32)), max_size=900),
    *_base_.flip_and_pack,
]
test_pipeline = [_base_.load_image, dict(_base_.resize, scale=(736, 512)), *_base_.load_and_pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# -----schedule-----
max_iters = 360000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [_base_.warmup, dict(_base_.steps, end=max_iters, milestones=[300000, 340000])]
