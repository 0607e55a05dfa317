# CenterNet2 on a five-level pyramid; configs add `backbone` and `neck`.
# -----shared numbers-----
strides = [8, 16, 32, 64, 128]
# The original's box weights (10, 10, 5, 5), (20, 20, 10, 10) and
# (30, 30, 15, 15) are the inverse of mmdet's standard deviations.
target_stds = [
    [1 / 10, 1 / 10, 1 / 5, 1 / 5],
    [1 / 20, 1 / 20, 1 / 10, 1 / 10],
    [1 / 30, 1 / 30, 1 / 15, 1 / 15],
]

# -----model-----
model = dict(
    type='CascadeRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[103.53, 116.28, 123.675],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_size_divisor=32,
        non_blocking=True,
    ),
    rpn_head=dict(
        type='CenterNet2ProposalHead',
        in_channels=256,
        stacked_convs=4,
        strides=strides,
        # Half diagonals, in pixels, of the objects that each level is trained
        # on; inclusive and overlapping.
        regress_ranges=[(0, 80), (64, 160), (128, 320), (256, 640), (512, 1e7)],
        hm_min_overlap=0.8,
        hm_min_radius=4,
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
            ignore_high_fp=0.85,
            pos_weight=0.5,
            neg_weight=0.5,
        ),
        loss_bbox=dict(type='LTRBIoULoss', mode='giou', loss_weight=1.0),
    ),
    roi_head=dict(
        type='CenterNet2CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 1, 1],
        bbox_roi_extractor=dict(
            type='CanonicalRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=strides,
            canonical_size=224,
            canonical_level=4,
        ),
        stage_target_stds=target_stds,
        bbox_head=dict(
            type='CenterNet2BBoxHead',
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=80,
            reg_class_agnostic=True,
            bbox_coder=dict(
                type='OneSidedDeltaXYWHBBoxCoder',
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=target_stds[0],
            ),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        ),
    ),
    # -----training and testing-----
    train_cfg=dict(
        rpn=dict(),
        rpn_proposal=dict(
            score_thr=1e-4,
            nms_pre=4000,  # of each level
            nms=dict(type='nms', iou_threshold=0.9, class_agnostic=True),
            max_per_img=2000,
        ),
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=thr,
                    neg_iou_thr=thr,
                    min_pos_iou=thr,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
                # only the first stage samples, the others take every box
                sampler=dict(
                    type='RandomSampler',
                    num=512,
                    pos_fraction=0.25,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=True,
                )
                if stage == 0
                else dict(type='PseudoSampler'),
                pos_weight=-1,
                debug=False,
            )
            for stage, thr in enumerate([0.6, 0.7, 0.8])
        ],
    ),
    test_cfg=dict(
        rpn=dict(
            score_thr=1e-4,
            nms_pre=1000,
            nms=dict(type='nms', iou_threshold=0.9, class_agnostic=True),
            max_per_img=256,
        ),
        rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.7), max_per_img=100),
    ),
)
