# One-stage CenterNet ("CenterNet*") on a five-level pyramid; configs add
# `backbone` and `neck`.
model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[103.53, 116.28, 123.675],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_size_divisor=32,
        non_blocking=True,
    ),
    bbox_head=dict(
        type='CenterNet2Head',
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        strides=[8, 16, 32, 64, 128],
        # Half diagonals, in pixels, of the objects that each level is trained
        # on; inclusive and overlapping.
        regress_ranges=[(0, 80), (64, 160), (128, 320), (256, 640), (512, 1e7)],
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
            neg_weight=1.0,
        ),
        loss_bbox=dict(type='LTRBIoULoss', mode='giou', loss_weight=2.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(
        score_thr=0.05,
        nms_pre=1000,  # of each level
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=100,
    ),
)
