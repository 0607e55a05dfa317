# COCO detection as the original reads it: pillow-exact resizing, a choice of
# short edges, nothing filtered but images without objects.
dataset_type = 'CenterNet2CocoDataset'
data_root = 'data/coco/'
backend_args = None

# -----pipelines-----
short_edges = [640, 672, 704, 736, 768, 800]
max_long_edge = 1333
load_image = dict(
    type='LoadImageFromFile',
    _scope_='mmdet_centernet2',
    imdecode_backend='pillow',
    backend_args=backend_args)
train_pipeline = [
    load_image,
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='RandomChoiceResize',
        scales=short_edges,
        resize_type='ResizeShortestEdge',
        max_size=max_long_edge,
        backend='pillow'),
    dict(type='RandomFlip', prob=0.5),
    # only what clipping has emptied goes
    dict(
        type='FilterAnnotations',
        min_gt_bbox_wh=(1e-5, 1e-5),
        keep_empty=False),
    dict(type='PackDetInputs')
]
test_pipeline = [
    load_image,
    dict(
        type='Resize',
        _scope_='mmdet_centernet2',
        scale=(max_long_edge, 800),
        keep_ratio=True,
        backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor'))
]

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
        backend_args=backend_args))
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
        backend_args=backend_args))
test_dataloader = val_dataloader

# -----evaluation-----
val_evaluator = dict(
    type='CenterNet2CocoMetric',
    ann_file=data_root + 'annotations/instances_val2017.json',
    metric='bbox',
    format_only=False,
    backend_args=backend_args)
test_evaluator = val_evaluator
