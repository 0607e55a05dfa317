# CenterNet2_R2-101-DCN-BiFPN_1280_4x of the original: COCO val2017 mAP 52.9.
_base_ = [
    '../_base_/models/centernet2.py',
    '../_base_/backbones/r2-101-mdconv-c4-c5_fpn.py',
    '../_base_/datasets/coco_crop.py',
    '../_base_/schedules/schedule_cosine.py',
    '../_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(pad_size_divisor=128, **_base_.pixel_stats),
    backbone=_base_.backbone,
    neck=dict(
        type='BiFPN',
        in_channels=[512, 1024, 2048],
        out_channels=288,
        num_outs=5,
        num_cells=7,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
    ),
    rpn_head=dict(in_channels=288, dcn_on_last_conv=True),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=288, featmap_strides=[8, 16]),
        bbox_head=dict(in_channels=288),
    ),
)

# -----data-----
train_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(_base_.resize_and_crop, size=1280),
    *_base_.flip_and_pack,
]
test_pipeline = [_base_.load_image, _base_.resize, *_base_.load_and_pack]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# -----schedule: 32 images, 8 GPUs with 4 each-----
max_iters = 180000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [dict(_base_.cosine, max_iters=max_iters)]
optim_wrapper = dict(optimizer=dict(lr=0.04))
auto_scale_lr = dict(base_batch_size=32)
