# LVIS_CenterNet2_R50_Fed_1x of the original: LVIS v1 val box mAP 28.3.
_base_ = './centernet2_r50-caffe_fpn_ms-rfs-1x_lvis-v1.py'

model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type='FederatedLoss',
                num_sampled_classes=50,
                freq_power=0.5,
                cat_freq='lvis_v1',
                prior_prob=0.01,
                loss_weight=1.0,
            )
        )
    )
)
