# CenterNet2_DLA-BiFPN-P3_24x of the original: COCO val2017 box mAP
# 45.6. Six repeats of the 4x schedule from a learning rate of 0.01, as one run:
# each repeat warms up, and starts with fresh momentum in the original.
_base_ = [
    './centernet2_dla34_fcos-bifpn-p3_ms-4x_coco.py',
]
custom_imports = dict(imports=['mmdet_centernet2'])

# -----numbers-----
repeats = 6
cycle_iters = 360000
max_iters = repeats * cycle_iters
base_lr = 0.01

# -----schedule-----
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(
        type='RepeatedMultiStepLR',
        cycle_iters=cycle_iters,
        milestones=[300000, 340000],
        gamma=0.1,
        warmup_iters=4000,
        warmup_factor=0.00025)
]
optim_wrapper = dict(optimizer=dict(lr=base_lr))
