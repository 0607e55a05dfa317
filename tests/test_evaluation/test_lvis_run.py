"""Training and testing on LVIS data through the runner."""

import json
import math

import pytest
from mmengine.runner import Runner

from tests import _tiny
from tests.paths import CONFIGS

CONFIG = CONFIGS / 'centernet2/centernet2-fed_r50-caffe_fpn_ms-rfs-1x_lvis-v1.py'


def to_lvis(folder):
    """Turn the tiny COCO-format data set into one in LVIS format."""
    path = folder / 'annotations.json'
    content = json.loads(path.read_text())
    for image in content['images']:
        name = image.pop('file_name')
        image.update(
            coco_url=f'http://images.cocodataset.org/{name}',
            neg_category_ids=[2] if image['id'] in (0, 3) else [],
            not_exhaustive_category_ids=[1] if image['id'] == 2 else [],
        )
    for category, frequency in zip(content['categories'], 'fr'):
        category['frequency'] = frequency
    for ann in content['annotations']:
        del ann['iscrowd']
    path.write_text(json.dumps(content))
    return folder


@pytest.fixture()
def runner(tmp_path, monkeypatch):
    """The config of the original's federated row, with a tiny model."""
    monkeypatch.setattr(_tiny, 'FLAGSHIP', CONFIG)
    data = to_lvis(_tiny.write_dataset(tmp_path / 'data'))
    cfg = _tiny.tiny_config(
        data,
        model__roi_head__bbox_head__loss_cls__cat_freq=[100, 3],
        # an untrained model has no high scores
        model__test_cfg__rcnn__score_thr=0.0,
    )
    cfg.work_dir = str(tmp_path / 'work')
    cfg.randomness = dict(seed=0)
    return Runner.from_cfg(cfg)


def test_two_iterations_and_a_test(runner):
    seen = []
    parse = runner.model.parse_losses

    def spy(losses):
        total, values = parse(losses)
        seen.append({name: value.item() for name, value in values.items()})
        return total, values

    runner.model.parse_losses = spy
    runner.train()
    assert len(seen) == 2
    for losses in seen:
        assert all(math.isfinite(value) for value in losses.values())
        for stage in range(3):
            # Both classes at the prior of 0.01, and few foreground RoIs.
            assert 0.01 < losses[f's{stage}.loss_cls'] < 10
            assert 0 <= losses[f's{stage}.acc'] <= 100
    found = runner.test()
    assert set(found) == {
        f'lvis/bbox_{name}'
        for name in ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'APr', 'APc', 'APf')
    }
    assert found['lvis/bbox_APc'] == -1  # no such category
    for name in ('AP', 'APr', 'APf'):
        assert 0 <= found[f'lvis/bbox_{name}'] <= 1
