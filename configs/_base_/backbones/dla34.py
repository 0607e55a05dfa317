# DLA-34 with trained batch norms, for RGB images.
pixel_stats = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
backbone = dict(
    type='DLA',
    depth=34,
    out_indices=(3, 4, 5),
    norm_cfg=dict(type='BN', requires_grad=True),
    init_cfg=dict(type='Pretrained', checkpoint='checkpoints/dla34_mmdet.pth'),
)
# Three to five levels
neck = dict(
    type='BiFPN',
    in_channels=[128, 256, 512],
    out_channels=160,
    num_outs=5,
    num_cells=3,
    norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
)
# One level of stride 4
stride4_backbone = dict(backbone, out_indices=(2, 3, 4, 5))
stride4_neck = dict(
    type='DLAUpNeck', in_channels=[64, 128, 256, 512], norm_cfg=dict(type='BN', requires_grad=True)
)
