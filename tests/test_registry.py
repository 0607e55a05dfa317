"""Configs inherited as 'mmdet_centernet2::...' are built from registries."""
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn
from torch.optim import SGD

from mmdet_centernet2 import registry

BASE = 'mmdet_centernet2::centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py'
# what the README shows
OWN_DATA = f"""
_base_ = '{BASE}'
data = dict(data_root='data/mine/', metainfo=dict(classes=('cat', 'dog')))
model = dict(roi_head=dict(bbox_head=dict(num_classes=2)))
train_dataloader = dict(dataset=dict(**data, ann_file='train.json'))
"""


def test_model_transforms_and_schedule_of_an_inherited_config(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(OWN_DATA)
    cfg = Config.fromfile(path)
    assert cfg.model._scope_ == registry.SCOPE  # mmengine's mark
    cfg.model.backbone = dict(type='ResNet', depth=18, out_indices=(1, 2, 3))
    cfg.model.neck.in_channels = [128, 256, 512]
    model = MODELS.build(cfg.model)
    assert [head.num_classes for head in model.roi_head.bbox_head] == [2] * 3
    names = [
        type(TRANSFORMS.build(t)).__name__
        for t in cfg.train_dataloader.dataset.pipeline
    ]
    assert names[0] == 'CheckedLoadImageFromFile' and len(names) == 6
    optimizer = SGD([nn.Parameter(nn.init.zeros_(nn.Linear(1, 1).bias))], 0.02)
    for scheduler in cfg.param_scheduler:
        PARAM_SCHEDULERS.build(
            scheduler, default_args=dict(optimizer=optimizer))
    assert optimizer.param_groups[0]['lr'] == 0.02 * 0.00025
