# One and a half times the schedule of the 16x config. The original's zoo has a
# row CenterNet2_DLA-BiFPN-P5_640_24x_ST (COCO val2017 mAP 49.2) without a
# config; according to its author that model was trained with the 16x schedule.
_base_ = './centernet2_dla34_fcos-bifpn-p5_crop640-16x-st_coco.py'

max_iters = 540000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [dict(_base_.cosine, max_iters=max_iters)]
