# CenterNet2_DLA-BiFPN-P3_24x of the original: COCO val2017 box mAP
# 45.6. Six repeats of the 4x schedule from a learning rate of 0.01, as one run:
# each repeat warms up, and starts with fresh momentum in the original.
_base_ = './centernet2_dla34_fcos-bifpn-p3_ms-4x_coco.py'

max_iters = 6 * _base_.max_iters
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(
        type='RepeatedMultiStepLR',
        cycle_iters=_base_.max_iters,
        milestones=_base_.param_scheduler[1].milestones,
        gamma=0.1,
        warmup_iters=_base_.warmup_iters,
        warmup_factor=_base_.warmup_factor,
    )
]
optim_wrapper = dict(optimizer=dict(lr=0.01))
