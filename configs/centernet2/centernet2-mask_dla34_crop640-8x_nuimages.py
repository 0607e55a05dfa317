# nuImages_CenterNet2_DLA_640_8x of the original: 43.3 box mAP on nuImages val
# according to its author.
_base_ = [
    '../_base_/models/centernet2.py',
    '../_base_/backbones/dla34.py',
    '../_base_/datasets/nuimages_crop.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

num_classes = 10
# -----model-----
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(pad_mask=True, **_base_.pixel_stats),
    backbone=_base_.stride4_backbone,
    neck=_base_.stride4_neck,
    rpn_head=dict(
        in_channels=64,
        stacked_convs=1,
        strides=[4],
        regress_ranges=[(0, 1e6)],
        more_pos=dict(thresh=0.2, topk=9),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, featmap_strides=[4]),
        bbox_head=dict(in_channels=64, num_classes=num_classes),
        mask_roi_extractor=dict(
            type='CanonicalRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
            out_channels=64,
            featmap_strides=[4],
        ),
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=4,
            in_channels=64,
            conv_out_channels=256,
            num_classes=num_classes,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(rcnn=[dict(mask_size=28, **cfg) for cfg in _base_.model.train_cfg.rcnn]),
    test_cfg=dict(rpn=dict(max_per_img=128), rcnn=dict(mask_thr_binary=0.5)),
)

# -----schedule: 64 images, 8 GPUs with 8 each-----
max_iters = 180000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [_base_.warmup, dict(_base_.steps, end=max_iters, milestones=[120000, 160000])]
optim_wrapper = dict(optimizer=dict(lr=0.08))
auto_scale_lr = dict(base_batch_size=64)
