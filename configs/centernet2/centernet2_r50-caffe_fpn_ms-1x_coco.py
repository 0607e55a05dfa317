# CenterNet2_R50_1x of the original: reported COCO val2017 box mAP 42.9.
_base_ = [
    '../_base_/models/centernet2_r50-caffe_fpn.py',
    '../_base_/datasets/coco_ms.py',
    '../_base_/schedules/schedule_1x.py',
]
custom_imports = dict(imports=['mmdet_centernet2'])
