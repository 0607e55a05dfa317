# CenterNet2_R50_1x of the original: reported COCO val2017 box mAP 42.9.
_base_ = [
    '../_base_/models/centernet2.py',
    '../_base_/backbones/r50-caffe_fpn.py',
    '../_base_/datasets/coco_ms.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=_base_.backbone, neck=_base_.neck)
