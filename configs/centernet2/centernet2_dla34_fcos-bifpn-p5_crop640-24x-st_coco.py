# CenterNet2_DLA-BiFPN-P5_640_24x_ST of the original's zoo: COCO val2017 box
# mAP 49.2. The original has no config of that name, and its author says that
# the 16x one was meant; this one is really half as long again.
_base_ = './centernet2_dla34_fcos-bifpn-p5_crop640-16x-st_coco.py'

max_iters = 540000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(
        type='WarmupCosineLR',
        max_iters=max_iters,
        warmup_iters=4000,
        warmup_factor=0.00025)
]
