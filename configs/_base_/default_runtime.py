# The import of this package, hooks, logging and visualisation.
_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['mmdet_centernet2'])
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(type='SafeCheckpointHook', by_epoch=False, interval=10000, max_keep_ckpts=3),
)
custom_hooks = [
    dict(type='CheckInvalidLossHook', interval=20),
    dict(type='CPUSpeedHook'),  # does nothing on a GPU
]
log_processor = dict(by_epoch=False)
visualizer = dict(type='CenterNet2Visualizer')
