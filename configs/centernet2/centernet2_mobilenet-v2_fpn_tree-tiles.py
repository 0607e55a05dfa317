# A CenterNet2 that learns in ten minutes on two CPU cores: all parts of the
# original (heat-map proposals, three cascaded stages, fused scores) on
# MobileNetV2 and three pyramid levels. tools/quickstart.py trains it; the
# figures and what gave the most are in docs/quickstart.md.
_base_ = [
    '../_base_/models/centernet2.py',
    '../_base_/datasets/tree_tiles.py',
    '../_base_/default_runtime.py',
]
# -----shared numbers-----
strides = [8, 16, 32]
channels = 64
stages = _base_.model.train_cfg.rcnn
stages[0].sampler.num = 64

# -----model-----
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        type='MobileNetV2',
        out_indices=(2, 4, 6),
        frozen_stages=2,
        norm_eval=True,
        # tools/quickstart.py fetches and converts these weights; by hand:
        # tools/model_converters/torchvision_mobilenetv2_to_mmdet.py fetch ...
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/mobilenet_v2-b0353104_mmdet.pth'),
    ),
    neck=dict(
        type='FPN',
        in_channels=[32, 96, 320],
        out_channels=channels,
        num_outs=3,
        init_cfg=dict(type='Caffe2Xavier', layer='Conv2d'),
    ),
    rpn_head=dict(
        in_channels=channels,
        stacked_convs=2,
        strides=strides,
        regress_ranges=[(0, 64), (48, 128), (96, 1e7)],
        bbox_bias=4.0,
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(sampling_ratio=1),
            out_channels=channels,
            featmap_strides=strides,
            canonical_size=112,
        ),
        bbox_head=dict(in_channels=channels, fc_out_channels=256, num_classes=1),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, nms=dict(iou_threshold=0.8), max_per_img=200),
        # hand-drawn boxes of crowns agree less than COCO's do
        rcnn=[
            dict(
                stage,
                assigner=dict(stage.assigner, pos_iou_thr=thr, neg_iou_thr=thr, min_pos_iou=thr),
            )
            for stage, thr in zip(stages, [0.5, 0.6, 0.7])
        ],
    ),
    test_cfg=dict(
        rpn=dict(score_thr=1e-3, nms_pre=500, nms=dict(iou_threshold=0.8), max_per_img=200),
        rcnn=dict(score_thr=0.02, nms=dict(iou_threshold=0.6)),
    ),
)

# -----schedule-----
max_iters = 750
train_cfg = dict(type='FastResumeTrainLoop', max_iters=max_iters, val_interval=max_iters + 1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=50,
        end=max_iters,
        T_max=max_iters - 50,
        eta_min_ratio=0.01,
    ),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.1),
    # what ImageNet taught is kept: it is all that the model knows of sites
    # other than those of the 32 tiles
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys=dict(backbone=dict(lr_mult=0.2))),
    clip_grad=dict(max_norm=10.0),
)

# -----hooks-----
default_hooks = dict(checkpoint=dict(interval=max_iters, max_keep_ckpts=1))
custom_hooks = [dict(type='CPUSpeedHook')]
# For several processes: mmdet's MobileNetV2 has a last convolution that
# out_indices does not reach, and freezes its stages after DDP was set up.
find_unused_parameters = True
visualizer = dict(vis_backends=[])
