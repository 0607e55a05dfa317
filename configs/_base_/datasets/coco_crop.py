# COCO detection with EfficientDet's resize-and-crop to 640 pixels.
_base_ = './coco_ms.py'

crop_size = 640
train_pipeline = [
    dict(_base_.load_image, lazy=True),  # the crop takes what it needs
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='EfficientDetResizeCrop',
        size=crop_size,
        scale_range=(0.1, 2.0),
        backend='pillow'),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='FilterAnnotations',
        min_gt_bbox_wh=(1e-5, 1e-5),
        keep_empty=False),
    dict(type='PackDetInputs')
]
test_pipeline = [
    _base_.load_image,
    dict(
        type='Resize',
        _scope_='mmdet_centernet2',
        scale=(900, 608),
        keep_ratio=True,
        backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor'))
]
train_dataloader = dict(
    batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
