# A CenterNet2 that learns in ten minutes on two CPU cores: all parts of the
# original (heat-map proposals, three cascaded stages, fused scores) on
# MobileNetV2 and three pyramid levels. tools/quickstart.py trains it; the
# figures and what gave the most are in docs/quickstart.md.
_base_ = [
    'mmdet::_base_/default_runtime.py',
    '../_base_/datasets/tree_tiles.py',
]
custom_imports = dict(imports=['mmdet_centernet2'])
# -----shared numbers-----
strides = [8, 16, 32]
channels = 64
# Half diagonals in pixels of the objects that each level learns.
regress_ranges = [(0, 64), (48, 128), (96, 1e7)]
target_stds = [
    [1 / 10, 1 / 10, 1 / 5, 1 / 5],
    [1 / 20, 1 / 20, 1 / 10, 1 / 10],
    [1 / 30, 1 / 30, 1 / 15, 1 / 15],
]
# Hand-drawn boxes of crowns agree with each other less than COCO's do.
stage_iou_thrs = [0.5, 0.6, 0.7]

# -----model-----
model = dict(
    type='CascadeRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32),
    backbone=dict(
        type='MobileNetV2',
        out_indices=(2, 4, 6),
        frozen_stages=2,
        norm_eval=True,
        # tools/quickstart.py fetches and converts these weights; by hand:
        # tools/model_converters/torchvision_mobilenetv2_to_mmdet.py fetch ...
        init_cfg=dict(
            type='Pretrained',
            checkpoint='checkpoints/mobilenet_v2-b0353104_mmdet.pth')),
    neck=dict(
        type='FPN',
        in_channels=[32, 96, 320],
        out_channels=channels,
        num_outs=3,
        init_cfg=dict(type='Caffe2Xavier', layer='Conv2d')),
    rpn_head=dict(
        type='CenterNet2ProposalHead',
        in_channels=channels,
        stacked_convs=2,
        strides=strides,
        regress_ranges=regress_ranges,
        bbox_bias=4.0),
    roi_head=dict(
        type='CenterNet2CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 1, 1],
        bbox_roi_extractor=dict(
            type='CanonicalRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=1),
            out_channels=channels,
            featmap_strides=strides,
            canonical_size=112,
            canonical_level=4),
        stage_target_stds=target_stds,
        bbox_head=dict(
            type='CenterNet2BBoxHead',
            in_channels=channels,
            fc_out_channels=256,
            roi_feat_size=7,
            num_classes=1,
            bbox_coder=dict(
                type='OneSidedDeltaXYWHBBoxCoder',
                target_means=[0., 0., 0., 0.]),
            loss_cls=dict(
                type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0))),
    # -----training and testing-----
    train_cfg=dict(
        rpn=dict(),
        rpn_proposal=dict(
            score_thr=1e-4,
            nms_pre=300,
            nms=dict(type='nms', iou_threshold=0.8, class_agnostic=True),
            max_per_img=200),
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=thr,
                    neg_iou_thr=thr,
                    min_pos_iou=thr,
                    match_low_quality=False,
                    ignore_iof_thr=-1),
                sampler=dict(
                    type='RandomSampler',
                    num=64,
                    pos_fraction=0.25,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=True) if stage == 0 else dict(
                        type='PseudoSampler'),
                pos_weight=-1,
                debug=False) for stage, thr in enumerate(stage_iou_thrs)
        ]),
    test_cfg=dict(
        rpn=dict(
            score_thr=1e-3,
            nms_pre=500,
            nms=dict(type='nms', iou_threshold=0.8, class_agnostic=True),
            max_per_img=200),
        rcnn=dict(
            score_thr=0.02,
            nms=dict(type='nms', iou_threshold=0.6),
            max_per_img=100)))

# -----schedule-----
max_iters = 750
train_cfg = dict(
    type='FastResumeTrainLoop',
    max_iters=max_iters,
    val_interval=max_iters + 1)
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
        eta_min_ratio=0.01)
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.1),
    # what ImageNet taught is kept: it is all that the model knows of sites
    # other than those of the 32 tiles
    paramwise_cfg=dict(
        norm_decay_mult=0., custom_keys=dict(backbone=dict(lr_mult=0.2))),
    clip_grad=dict(max_norm=10.))

# -----hooks-----
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(by_epoch=False, interval=max_iters, max_keep_ckpts=1))
custom_hooks = [dict(type='CPUSpeedHook')]
log_processor = dict(by_epoch=False)
# For several processes: mmdet's MobileNetV2 has a last convolution that
# out_indices does not reach, and freezes its stages after DDP was set up.
find_unused_parameters = True
visualizer = dict(type='CenterNet2Visualizer', vis_backends=[])
