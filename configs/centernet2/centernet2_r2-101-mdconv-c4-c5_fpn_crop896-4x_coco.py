# CenterNet2_R2-101-DCN_896_4x of the original: COCO val2017 box mAP 51.2.
_base_ = [
    '../_base_/models/centernet2.py',
    '../_base_/backbones/r2-101-mdconv-c4-c5_fpn.py',
    '../_base_/datasets/coco_crop.py',
    '../_base_/schedules/schedule_cosine.py',
    '../_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=_base_.pixel_stats,
    backbone=_base_.backbone,
    neck=_base_.neck,
    rpn_head=dict(dcn_on_last_conv=True),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[8, 16])),
)

# -----data-----
train_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(_base_.resize_and_crop, size=896),
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
