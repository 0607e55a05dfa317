# CenterNet-FPN_R50_1x of the original: COCO val2017 box mAP 40.2.
_base_ = [
    '../_base_/models/centernet.py',
    '../_base_/backbones/r50-caffe_fpn.py',
    '../_base_/datasets/coco_ms.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=_base_.backbone, neck=_base_.neck)
optim_wrapper = dict(optimizer=dict(lr=0.01))
