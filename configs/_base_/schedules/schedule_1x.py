# 90,000 iterations of 16 images, the original's "1x".
# -----numbers-----
max_iters = 90000
warmup_iters = 4000
warmup_factor = 0.00025

# -----loops-----
train_cfg = dict(type='FastResumeTrainLoop', max_iters=max_iters, val_interval=10000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# -----learning rate-----
# LinearLR reaches its end one iteration before `end`; the original reaches it
# at iteration `warmup_iters`.
warmup = dict(
    type='LinearLR', start_factor=warmup_factor, by_epoch=False, begin=0, end=warmup_iters + 1
)
steps = dict(
    type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=[60000, 80000], gamma=0.1
)
param_scheduler = [warmup, steps]

# -----optimizer-----
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
    constructor='GroupedOptimWrapperConstructor',
    paramwise_cfg=dict(norm_decay_mult=0.0),
    # each element of each gradient is clamped: not the norm
    clip_grad=dict(type='value', clip_value=1.0),
)
# 8 GPUs with 2 images each
auto_scale_lr = dict(enable=False, base_batch_size=16)
