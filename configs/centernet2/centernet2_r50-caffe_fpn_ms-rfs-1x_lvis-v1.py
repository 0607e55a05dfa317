# LVIS_CenterNet2_R50_1x of the original: LVIS v1 val box mAP 26.5.
_base_ = [
    '../_base_/models/centernet2_r50-caffe_fpn.py',
    '../_base_/datasets/lvis_v1_ms.py',
    '../_base_/schedules/schedule_1x.py',
]
custom_imports = dict(imports=['mmdet_centernet2'])

model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1203)),
    test_cfg=dict(
        rcnn=dict(
            score_thr=0.02,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=300)))
