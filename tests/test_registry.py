"""Our registries: nothing of mmdet's is replaced, inherited configs build."""

import json
import subprocess
import sys

import pytest
from mmdet.datasets.transforms import Resize as MMDetResize
from mmdet.registry import DATASETS, MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from torch import nn
from torch.optim import SGD

from mmdet_centernet2 import registry
from mmdet_centernet2.datasets.transforms import CheckedLoadImageFromFile, Resize
from tests.paths import CONFIGS

BASE = 'mmdet_centernet2::centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py'
# what the README shows
OWN_DATA = f"""
_base_ = '{BASE}'
data = dict(data_root='data/mine/', metainfo=dict(classes=('cat', 'dog')))
model = dict(roi_head=dict(bbox_head=dict(num_classes=2)))
train_dataloader = dict(dataset=dict(**data, ann_file='train.json'))
"""
# Says for each registry of mmengine, mmcv and mmdet which class each name
# stands for, before and after the import of this package.
COMPARE = """
import importlib, json, pkgutil
import mmcv.cnn, mmcv.ops, mmcv.transforms, mmengine.registry
import mmdet.registry
from mmdet.utils import register_all_modules
from mmengine.registry import Registry

def names():
    return {
        f'{module.__name__}.{registry}': {
            name: f'{kind.__module__}.{kind.__qualname__}'
            for name, kind in value.module_dict.items()
        }
        for module in (mmengine.registry, mmdet.registry)
        for registry, value in vars(module).items()
        if isinstance(value, Registry)
    }

register_all_modules()
before = names()
import mmdet_centernet2
for module in pkgutil.walk_packages(mmdet_centernet2.__path__,
                                    'mmdet_centernet2.'):
    if '.deploy.' not in module.name:
        importlib.import_module(module.name)
print('RESULT' + json.dumps([before, names()]))
"""


@pytest.fixture
def default_scope():
    """mmdet as the default scope, as tools set it."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.mark.slow
def test_no_name_of_another_package_is_replaced():
    done = subprocess.run([sys.executable, '-c', COMPARE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout.split('RESULT')[1])
    ours = 0
    for name, entries in before.items():
        assert {key: after[name][key] for key in entries} == entries
        new = {key: after[name][key] for key in after[name].keys() - entries}
        assert all(kind.startswith('mmdet_centernet2.') for kind in new.values()), new
        ours += len(new)
    # the comparison saw what it should
    everything = {key: kind for entries in before.values() for key, kind in entries.items()}
    assert everything['LoadImageFromFile'].startswith('mmcv.')
    assert everything['DCNv2'].startswith('mmcv.')
    assert everything['ResizeShortestEdge'].startswith('mmdet.')
    assert ours > 30


def test_what_our_scope_holds():
    """Names that tools look for, and nothing else."""
    held = {
        f'{name}.{key}'
        for name, value in vars(registry).items()
        if name.isupper() and hasattr(value, 'module_dict')
        for key in value.module_dict
    }
    names = ('LoadImageFromFile', 'PackDetInputs', 'Resize')
    assert held == {f'TRANSFORMS.{name}' for name in names}


def test_model_transforms_and_schedule_of_an_inherited_config(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(OWN_DATA)
    cfg = Config.fromfile(path)
    assert cfg.model._scope_ == registry.SCOPE  # mmengine's mark
    cfg.model.backbone = dict(type='ResNet', depth=18, out_indices=(1, 2, 3))
    cfg.model.neck.in_channels = [128, 256, 512]
    model = MODELS.build(cfg.model)
    assert [head.num_classes for head in model.roi_head.bbox_head] == [2] * 3
    names = [type(TRANSFORMS.build(t)).__name__ for t in cfg.train_dataloader.dataset.pipeline]
    assert names[0] == 'CheckedLoadImageFromFile' and len(names) == 6
    optimizer = SGD([nn.Parameter(nn.init.zeros_(nn.Linear(1, 1).bias))], 0.02)
    for scheduler in cfg.param_scheduler:
        PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=optimizer))
    assert optimizer.param_groups[0]['lr'] == 0.02 * 0.00025


@pytest.mark.parametrize('inherited', [True, False])
def test_transforms_are_ours_however_the_config_is_reached(inherited, tmp_path, default_scope):
    path = tmp_path / 'mine.py'
    path.write_text(
        f"_base_ = '{BASE}'" if inherited else f"_base_ = '{CONFIGS / BASE.split('::')[1]}'"
    )
    dataset = Config.fromfile(path).test_dataloader.dataset
    dataset.update(lazy_init=True, serialize_data=False)
    for transforms in (
        Compose(dataset.pipeline).transforms,
        DATASETS.build(dataset).pipeline.transforms,
    ):
        kinds = [type(transform) for transform in transforms]
        assert kinds[0] is CheckedLoadImageFromFile
        assert sum(issubclass(kind, MMDetResize) for kind in kinds) == 1
        assert Resize in kinds
