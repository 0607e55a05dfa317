# All parts of CenterNet2 at a size for CPUs: MobileNetV2, three pyramid levels.
_base_ = './centernet2.py'

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
        # torchvision's ImageNet weights, fetched and converted at the first use
        init_cfg=dict(type='Pretrained', checkpoint='centernet2://mobilenet_v2'),
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
        bbox_head=dict(in_channels=channels, fc_out_channels=256),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, nms=dict(iou_threshold=0.8), max_per_img=200),
        # boxes drawn by hand agree less than COCO's do
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

# For several processes: mmdet's MobileNetV2 has a last convolution that
# out_indices does not reach, and freezes its stages after DDP was set up.
find_unused_parameters = True
