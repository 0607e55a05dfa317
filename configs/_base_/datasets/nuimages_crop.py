# nuImages detection and instance segmentation, resize-and-crop to 640 pixels.
_base_ = './coco_crop.py'

dataset_type = 'NuImagesDataset'
data_root = 'data/nuimages/'
train_pipeline = [
    _base_.load_image,
    dict(_base_.load_boxes, with_mask=True, poly2mask=True),
    _base_.resize_and_crop,
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='FilterAnnotations',
        min_gt_bbox_wh=(1e-5, 1e-5),
        by_mask=True,
        min_gt_mask_area=1,
        keep_empty=False,
    ),
    _base_.pack,
]
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/nuimages_v1.0-train.json',
        data_prefix=dict(img=''),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/nuimages_v1.0-val.json',
        data_prefix=dict(img=''),
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(
    ann_file=data_root + 'annotations/nuimages_v1.0-val.json', metric=['bbox', 'segm']
)
test_evaluator = val_evaluator
