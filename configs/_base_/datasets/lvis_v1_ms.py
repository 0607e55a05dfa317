# LVIS v1 detection: the images of COCO, repeat-factor sampling.
_base_ = './coco_ms.py'

dataset_type = 'CenterNet2LVISDataset'
data_root = 'data/coco/'
train_dataloader = dict(
    sampler=dict(_delete_=True, type='RepeatFactorSampler', repeat_thr=0.001),
    dataset=dict(
        type=dataset_type,
        ann_file='annotations/lvis_v1_train.json',
        data_prefix=dict(_delete_=True, img=''),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        ann_file='annotations/lvis_v1_val.json',
        data_prefix=dict(_delete_=True, img=''),
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(
    _delete_=True,
    type='CenterNet2LVISMetric',
    ann_file=data_root + 'annotations/lvis_v1_val.json',
    metric='bbox',
)
test_evaluator = val_evaluator
