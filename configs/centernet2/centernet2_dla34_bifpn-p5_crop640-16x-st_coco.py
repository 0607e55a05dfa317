# CenterNet2_DLA-BiFPN-P5_640_16x_ST of the original: no reported mAP.
_base_ = './centernet2_dla34_bifpn-p5_crop640-16x_coco.py'

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
