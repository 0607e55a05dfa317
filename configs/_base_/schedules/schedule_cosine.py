# The original's cosine schedule: 360,000 iterations of 64 images.
_base_ = './schedule_1x.py'

max_iters = 360000
train_cfg = dict(max_iters=max_iters, val_interval=7500)
cosine = dict(
    type='WarmupCosineLR',
    max_iters=max_iters,
    warmup_iters=_base_.warmup_iters,
    warmup_factor=_base_.warmup_factor,
)
param_scheduler = [cosine]
optim_wrapper = dict(optimizer=dict(lr=0.08))
# 8 GPUs with 8 images each
auto_scale_lr = dict(base_batch_size=64)
