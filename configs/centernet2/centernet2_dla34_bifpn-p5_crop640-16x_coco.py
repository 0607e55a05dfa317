# CenterNet2_DLA-BiFPN-P5_640_16x of the original: no reported mAP.
_base_ = [
    '../_base_/models/centernet2.py',
    '../_base_/backbones/dla34.py',
    '../_base_/datasets/coco_crop.py',
    '../_base_/schedules/schedule_cosine.py',
    '../_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(pad_size_divisor=128, **_base_.pixel_stats),
    backbone=_base_.backbone,
    neck=_base_.neck,
    rpn_head=dict(in_channels=160),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=160), bbox_head=dict(in_channels=160)),
    test_cfg=dict(rpn=dict(max_per_img=128)),
)
