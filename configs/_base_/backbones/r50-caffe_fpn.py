# Caffe-style ResNet-50 and its five-level FPN.
backbone = dict(
    type='ResNet',
    depth=50,
    num_stages=4,
    out_indices=(1, 2, 3),
    frozen_stages=1,
    norm_cfg=dict(type='BN', requires_grad=False),
    norm_eval=True,
    style='caffe',
    init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnet50_caffe'),
)
neck = dict(
    type='FPN',
    in_channels=[512, 1024, 2048],
    out_channels=256,
    num_outs=5,
    add_extra_convs='on_output',  # P6 from P5's output
    relu_before_extra_convs=True,
    init_cfg=dict(type='Caffe2Xavier', layer='Conv2d'),
)
