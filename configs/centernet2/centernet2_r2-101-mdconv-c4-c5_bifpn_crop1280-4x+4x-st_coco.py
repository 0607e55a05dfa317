# CenterNet2_R2-101-DCN-BiFPN_4x+4x_1560_ST of the original: COCO val2017 box
# mAP 56.1. Starts from the detector of the 1280_4x config, is trained on
# RGB images, and tested with the longer side at 1560.
_base_ = './centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x_coco.py'

model = dict(data_preprocessor=dict(bgr_to_rgb=True))
load_from = ('work_dirs/'
             'centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x_coco/'
             'iter_180000.pth')

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

# -----testing-----
test_pipeline = [
    _base_.load_image,
    dict(
        type='Resize',
        _scope_='mmdet_centernet2',
        scale=(1560, 1560),
        keep_ratio=True,
        rounding='down',
        backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor'))
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
