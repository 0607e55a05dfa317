# The quickstart: tree crowns in aerial photographs. Its figures, and what gave
# the most: docs/quickstart.md.
_base_ = [
    '../_base_/models/centernet2_mobilenet-v2.py',
    '../_base_/datasets/tree_tiles.py',
    '../_base_/schedules/schedule_small.py',
    '../_base_/default_runtime.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=1)))

# -----hooks-----
default_hooks = dict(checkpoint=dict(interval=750, max_keep_ckpts=1))
custom_hooks = [dict(type='CPUSpeedHook')]
visualizer = dict(vis_backends=[])
