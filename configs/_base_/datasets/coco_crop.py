# COCO detection with EfficientDet's resize-and-crop to 640 pixels.
_base_ = './coco_ms.py'

resize_and_crop = dict(
    type='EfficientDetResizeCrop', size=640, scale_range=(0.1, 2.0), backend='antialias'
)
train_pipeline = [_base_.load_image, _base_.load_boxes, resize_and_crop, *_base_.flip_and_pack]
test_pipeline = [_base_.load_image, dict(_base_.resize, scale=(900, 608)), *_base_.load_and_pack]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
