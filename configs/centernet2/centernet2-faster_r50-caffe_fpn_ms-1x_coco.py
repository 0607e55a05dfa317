# CenterNet2-F_R50_1x of the original: COCO val2017 box mAP 41.7.
_base_ = [
    '../_base_/models/centernet2.py',
    '../_base_/backbones/r50-caffe_fpn.py',
    '../_base_/datasets/coco_ms.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

# One second stage instead of the cascade.
model = dict(
    type='FasterRCNN',
    backbone=_base_.backbone,
    neck=_base_.neck,
    roi_head=dict(
        _delete_=True,
        type='CenterNet2RoIHead',
        bbox_roi_extractor=_base_.model.roi_head.bbox_roi_extractor,
        bbox_head=_base_.model.roi_head.bbox_head,
    ),
    train_cfg=dict(rcnn=dict(_delete_=True, **_base_.model.train_cfg.rcnn[0])),
)
