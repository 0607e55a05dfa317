# CenterNet-FPN_R50_1x of the original: COCO val2017 box mAP 40.2.
_base_ = [
    '../_base_/models/centernet_r50-caffe_fpn.py',
    '../_base_/datasets/coco_ms.py',
    '../_base_/schedules/schedule_1x.py',
]
custom_imports = dict(imports=['mmdet_centernet2'])

optim_wrapper = dict(optimizer=dict(lr=0.01))
