# CenterNet2_DLA-BiFPN-P5_640_16x_ST of the original: no reported mAP.
_base_ = './centernet2_dla34_bifpn-p5_crop640-16x_coco.py'

# -----data: COCO, and its unlabelled images with pseudo labels-----
labelled = _base_.train_dataloader.dataset
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[labelled, dict(labelled, **_base_.pseudo_labels)],
    )
)
