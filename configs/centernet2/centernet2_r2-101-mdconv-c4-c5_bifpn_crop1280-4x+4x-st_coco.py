# CenterNet2_R2-101-DCN-BiFPN_4x+4x_1560_ST of the original: COCO val2017 box
# mAP 56.1. Starts from the detector of the 1280_4x config, is trained on
# RGB images, and tested with the longer side at 1560.
_base_ = './centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x_coco.py'

model = dict(data_preprocessor=dict(bgr_to_rgb=True))
load_from = 'work_dirs/centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x_coco/iter_180000.pth'

# -----data: COCO, and its unlabelled images with pseudo labels-----
labelled = _base_.train_dataloader.dataset
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[labelled, dict(labelled, **_base_.pseudo_labels)],
    )
)

# -----testing-----
test_pipeline = [
    _base_.load_image,
    dict(_base_.resize, scale=(1560, 1560), rounding='down'),
    *_base_.load_and_pack,
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
