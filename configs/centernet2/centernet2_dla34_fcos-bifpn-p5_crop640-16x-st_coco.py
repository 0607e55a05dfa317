# CenterNet2_DLA-fcosBiFPN-P5_640_16x_ST of the original: COCO val2017 box mAP
# 49.2, in the zoo's row "P5_640_24x_ST".
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
    neck=dict(_base_.neck, type='FCOSBiFPN'),
    rpn_head=dict(in_channels=160),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=160), bbox_head=dict(in_channels=160)),
    test_cfg=dict(rpn=dict(max_per_img=128)),
)

# -----data: COCO, and its unlabelled images with pseudo labels-----
labelled = _base_.train_dataloader.dataset
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[labelled, dict(labelled, **_base_.pseudo_labels)],
    )
)
