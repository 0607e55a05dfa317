"""The config that ``centernet2 train`` writes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from torch.nn import Parameter
from torch.optim import SGD

from mmdet_centernet2.cli.own_config import CPU_MODEL, GPU_MODEL, fit_time, make_plan, write_config
from mmdet_centernet2.cli.own_data import OwnData, Part
from mmdet_centernet2.utils.errors import PreflightError


@pytest.fixture
def data(tmp_path):
    content = dict(images=[{}] * 200, annotations=[{}] * 900)
    part = Part(content, tmp_path, tmp_path / 'labels.json')
    extents = np.array([[30.0, 40.0]] * 3 + [[600.0, 450.0]])
    return OwnData('COCO', part, part, ('cat', 'dog'), extents, longest=1000.0, notes=[])


# learning rates of the originals are for 16 or, of the second DLA, 32 images
@pytest.mark.parametrize(
    'model, lr, weights',
    [
        (CPU_MODEL, 1e-3, None),
        (GPU_MODEL, 0.01, 'centernet2://CenterNet2_R50_1x'),
        ('centernet2-faster_r50-caffe_fpn_ms-1x_coco', 0.01, None),
        (
            'centernet2_dla34_fcos-bifpn-p3_ms-24x_coco',
            0.005,
            'centernet2://CenterNet2_DLA-BiFPN-P3_24x',
        ),
    ],
)
def test_every_model_can_be_inherited(model, lr, weights, data, tmp_path):
    path = tmp_path / 'config.py'
    plan = make_plan(data, gpu=True, model=model)
    write_config(path, data, plan, 'pets')
    assert len(path.read_text().splitlines()) <= 40
    cfg = Config.fromfile(path)
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(lr)
    assert cfg.get('load_from') == weights
    assert cfg.train_dataloader.dataset.type == 'CenterNet2CocoDataset'


@pytest.mark.parametrize('iters', [20, 100])
def test_warm_up_ends_at_the_full_learning_rate(iters, data, tmp_path):
    path = tmp_path / 'config.py'
    write_config(path, data, replace(make_plan(data, gpu=False), iters=iters), 'pets')
    optimizer = SGD([Parameter(torch.zeros(1))], lr=1.0)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(each, optimizer=optimizer))
        for each in Config.fromfile(path).param_scheduler
    ]
    rates = []
    for _ in range(iters):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(0.01) and max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.05


def test_levels_of_the_objects_are_named(data, tmp_path):
    path = tmp_path / 'config.py'
    plan = make_plan(data, gpu=False)
    write_config(path, data, plan, 'pets')
    assert plan.size == 800  # half diagonals of 20 and 300 px
    assert '# objects by stride of the level, some on two: 8: 75%, 16: 0%, 32: 25%' in (
        path.read_text().splitlines()
    )


def test_an_unknown_model_is_refused(data):
    with pytest.raises(PreflightError, match='--model yolo: give one of .*_r50-caffe_fpn_ms-1x_c'):
        make_plan(data, gpu=False, model='yolo')


def test_a_short_time_gets_smaller_batches(data):
    plan = make_plan(data, gpu=False)
    assert (plan.batch, plan.crop) == (4, 512)
    long = fit_time(plan, seconds=3600, pace=1.0, evaluation=5.0)
    assert (long.batch, long.crop, long.evaluations) == (4, 512, 10)
    assert long.iters == 3600 - 11 * 5
    short = fit_time(plan, seconds=60, pace=1.0, evaluation=5.0)
    assert (short.batch, short.crop) == (2, 384) and short.evaluations == 2
    assert short.iters == 159
