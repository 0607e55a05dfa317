# O365_CenterNet2_R50_1x of the original: Objects365 v1 val box mAP 22.6.
_base_ = [
    '../_base_/models/centernet2.py',
    '../_base_/backbones/r50-caffe_fpn.py',
    '../_base_/datasets/objects365v1_ms.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=_base_.backbone,
    neck=_base_.neck,
    roi_head=dict(bbox_head=dict(num_classes=365)),
    test_cfg=dict(rcnn=dict(max_per_img=300)),
)
