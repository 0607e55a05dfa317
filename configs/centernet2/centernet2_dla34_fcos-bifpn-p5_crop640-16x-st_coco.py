# CenterNet2_DLA-fcosBiFPN-P5_640_16x_ST of the original: COCO val2017 box mAP
# 49.2, in the zoo's row "P5_640_24x_ST".
_base_ = [
    '../_base_/models/centernet2_r50-caffe_fpn.py',
    '../_base_/datasets/coco_crop.py',
    '../_base_/schedules/schedule_cosine.py',
]
custom_imports = dict(imports=['mmdet_centernet2'])

# -----model: RGB, unlike the Caffe models-----
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=128),
    backbone=dict(
        _delete_=True,
        type='DLA',
        depth=34,
        out_indices=(3, 4, 5),
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/dla34_mmdet.pth')),
    neck=dict(
        _delete_=True,
        type='FCOSBiFPN',
        in_channels=[128, 256, 512],
        out_channels=160,
        num_outs=5,
        num_cells=3,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True)),
    rpn_head=dict(in_channels=160),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=160),
        bbox_head=dict(in_channels=160)),
    test_cfg=dict(rpn=dict(max_per_img=128)))

# -----data: COCO, and its unlabelled images with pseudo labels-----
pseudo_dataset = dict(
    type=_base_.dataset_type,
    data_root=_base_.data_root,
    ann_file='annotations/pseudo_labels_unlabeled2017.json',
    data_prefix=dict(img='unlabeled2017/'),
    filter_cfg=dict(filter_empty_gt=True),
    bad_boxes='drop',
    pipeline=_base_.train_pipeline,
    backend_args=None)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[_base_.train_dataloader.dataset, pseudo_dataset]))
