# The original's cosine schedule: 360,000 iterations of 64 images.
_base_ = './schedule_1x.py'

max_iters = 360000
base_lr = 0.08
train_cfg = dict(max_iters=max_iters, val_interval=7500)
param_scheduler = [
    dict(
        type='WarmupCosineLR',
        max_iters=max_iters,
        warmup_iters=4000,
        warmup_factor=0.00025)
]
optim_wrapper = dict(optimizer=dict(lr=base_lr))
# 8 GPUs with 8 images each
auto_scale_lr = dict(base_batch_size=64)
