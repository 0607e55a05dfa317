# Res2Net-101 with modulated deformable convolutions in its last two stages.
_base_ = './r50-caffe_fpn.py'  # for the neck

# BGR images with RGB statistics, see docs/differences.md, 7
pixel_stats = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
backbone = dict(
    _delete_=True,
    type='CaffeRes2Net',
    depth=101,
    scales=4,
    base_width=26,
    num_stages=4,
    out_indices=(1, 2, 3),
    frozen_stages=1,
    norm_cfg=dict(type='BN', requires_grad=False),
    norm_eval=True,
    dcn=dict(type='ExactDeformConv', deform_groups=1, fallback_on_stride=False),
    stage_with_dcn=(False, False, True, True),
    init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://res2net101_v1d_26w_4s'),
)
