# Tree crowns in aerial photographs: 32 tiles of 400 px to train on, 13 held
# out. tools/dataset_converters/tree_tiles.py makes them.
_base_ = './coco_ms.py'

data_root = 'data/tree_tiles/'
metainfo = dict(classes=('tree',), palette=[(57, 255, 20)])

# -----pipelines-----
# Tiles are enlarged: tree crowns are small, most of them 20 to 60 px of 400.
# 32 tiles are few: without strong augmentation the model learns them by heart
# (docs/quickstart.md).
image_size = 600
crop_size = (512, 512)
pad_color = 114
# Objects are cut as the tiles were: the centre decides (KeepBoxesByCenter).
crop = [
    dict(type='RandomCrop', crop_size=crop_size, allow_negative_crop=True, bbox_clip_border=False),
    dict(type='KeepBoxesByCenter'),
]
train_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(
        type='RandomResize', scale=(image_size, image_size), ratio_range=(0.7, 1.5), keep_ratio=True
    ),
    *crop,
    dict(
        type='CachedMosaic', img_scale=crop_size, pad_val=pad_color, max_cached_images=40, prob=0.5
    ),
    *crop,
    # grass and crowns change colours from site to site
    dict(type='YOLOXHSVRandomAug', hue_delta=12, saturation_delta=60, value_delta=60),
    dict(type='RandomGrayscale', prob=0.15, keep_channels=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomQuarterTurns'),
    dict(type='Pad', size=crop_size, pad_val=dict(img=(pad_color,) * 3)),
    _base_.pack,
]
test_pipeline = [
    _base_.load_image,
    dict(
        type='Resize', _scope_='mmdet_centernet2', scale=(image_size, image_size), keep_ratio=True
    ),
    *_base_.load_and_pack,
]

# -----loaders: 32 tiles need no worker processes-----
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    batch_sampler=None,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        metainfo=metainfo,
        filter_cfg=None,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        metainfo=metainfo,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# -----evaluation-----
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
