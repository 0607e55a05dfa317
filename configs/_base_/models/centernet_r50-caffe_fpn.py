# One-stage CenterNet ("CenterNet*") with a Caffe-style ResNet-50 and FPN.
strides = [8, 16, 32, 64, 128]
num_classes = 80
regress_ranges = [(0, 80), (64, 160), (128, 320), (256, 640), (512, 1e7)]

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[103.53, 116.28, 123.675],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_size_divisor=32),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='caffe',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='open-mmlab://detectron2/resnet50_caffe')),
    neck=dict(
        type='FPN',
        in_channels=[512, 1024, 2048],
        out_channels=256,
        num_outs=5,
        add_extra_convs='on_output',  # P6 from P5's output
        relu_before_extra_convs=True,
        init_cfg=dict(type='Caffe2Xavier', layer='Conv2d')),
    bbox_head=dict(
        type='CenterNet2Head',
        num_classes=num_classes,
        in_channels=256,
        stacked_convs=4,
        strides=strides,
        regress_ranges=regress_ranges,
        hm_min_overlap=0.8,
        hm_min_radius=4,
        more_pos=dict(thresh=0.2, topk=9),
        prior_prob=0.01,
        bbox_bias=8.0,
        conv_bias=True,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        loss_cls=dict(
            type='HeatmapFocalLoss',
            alpha=0.25,
            beta=4,
            gamma=2,
            clamp=1e-4,
            ignore_high_fp=-1,
            pos_weight=1.0,
            neg_weight=1.0),
        loss_bbox=dict(type='LTRBIoULoss', mode='giou', loss_weight=2.0)),
    train_cfg=dict(),
    test_cfg=dict(
        score_thr=0.05,
        nms_pre=1000,  # of each level
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=100))
