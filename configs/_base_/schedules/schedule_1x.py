# 90,000 iterations of 16 images, the original's "1x", and the runtime.
_base_ = 'mmdet::_base_/default_runtime.py'

# -----numbers-----
max_iters = 90000
milestones = [60000, 80000]
base_lr = 0.02
warmup_iters = 4000
warmup_factor = 0.00025

# -----loops-----
train_cfg = dict(
    type='FastResumeTrainLoop', max_iters=max_iters, val_interval=10000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# -----learning rate-----
param_scheduler = [
    # LinearLR reaches its end one iteration before `end`; the original
    # reaches it at iteration `warmup_iters`.
    dict(
        type='LinearLR',
        start_factor=warmup_factor,
        by_epoch=False,
        begin=0,
        end=warmup_iters + 1),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=milestones,
        gamma=0.1)
]

# -----optimizer-----
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=base_lr, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.),
    # each element of each gradient is clamped: not the norm
    clip_grad=dict(type='value', clip_value=1.0))
# 8 GPUs with 2 images each
auto_scale_lr = dict(enable=False, base_batch_size=16)

# -----hooks-----
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(by_epoch=False, interval=10000, max_keep_ckpts=3))
# the second does nothing on a GPU
custom_hooks = [
    dict(type='CheckInvalidLossHook', interval=20),
    dict(type='CPUSpeedHook')
]
log_processor = dict(by_epoch=False)
visualizer = dict(type='CenterNet2Visualizer')
