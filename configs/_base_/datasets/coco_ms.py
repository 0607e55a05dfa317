# COCO detection as the original reads it: antialiased resizing, a choice of
# short edges, nothing filtered but images without objects.
dataset_type = 'CenterNet2CocoDataset'
data_root = 'data/coco/'
backend_args = None

# -----steps of the pipelines-----
load_image = dict(
    type='LoadImageFromFile',
    _scope_='mmdet_centernet2',
    imdecode_backend='pillow',
    backend_args=backend_args,
)
load_boxes = dict(type='LoadAnnotations', with_bbox=True)
resize_short_edge = dict(
    type='RandomChoiceResize',
    scales=[640, 672, 704, 736, 768, 800],
    resize_type='AntialiasShortestEdge',  # within a grey level of pillow
    max_size=1333,
)
resize = dict(
    type='Resize', _scope_='mmdet_centernet2', scale=(1333, 800), keep_ratio=True, backend='pillow'
)
pack = dict(type='PackDetInputs', _scope_='mmdet_centernet2')
flip_and_pack = [
    dict(type='RandomFlip', prob=0.5),
    # only what clipping has emptied goes
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-5, 1e-5), keep_empty=False),
    pack,
]
load_and_pack = [load_boxes, pack]

# -----pipelines-----
train_pipeline = [load_image, load_boxes, resize_short_edge, *flip_and_pack]
test_pipeline = [load_image, resize, *load_and_pack]

# -----loaders-----
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='OriginalAspectRatioBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
        backend_args=backend_args,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args,
    ),
)
test_dataloader = val_dataloader
# What self-training adds: the images without labels, with pseudo labels.
pseudo_labels = dict(
    ann_file='annotations/pseudo_labels_unlabeled2017.json',
    data_prefix=dict(img='unlabeled2017/'),
    bad_boxes='drop',
)

# -----evaluation-----
val_evaluator = dict(
    type='CenterNet2CocoMetric',
    ann_file=data_root + 'annotations/instances_val2017.json',
    metric='bbox',
    format_only=False,
    backend_args=backend_args,
)
test_evaluator = val_evaluator
