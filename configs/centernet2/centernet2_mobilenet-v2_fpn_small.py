# A small CenterNet2 for some hundred images, which learns in minutes on two CPU
# cores. `centernet2 train` sets data, image size and schedule.
_base_ = [
    '../_base_/models/centernet2_mobilenet-v2.py',
    '../_base_/datasets/coco_ms.py',
    '../_base_/schedules/schedule_small.py',
    '../_base_/default_runtime.py',
]

# -----hooks-----
default_hooks = dict(checkpoint=dict(interval=750, max_keep_ckpts=1))
custom_hooks = [dict(type='CPUSpeedHook')]
