"""What the README shows works as it stands there."""

import json
import re
import shlex

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.runner import Runner

from tests._tiny import small_options, write_dataset
from tests.paths import ROOT

README = (ROOT / 'README.md').read_text()


OWN_DATA = 'Train on your own COCO-format data'


def _block(heading: str, number: int = 0) -> str:
    """A block of code under a heading."""
    section = README.split(f'## {heading}\n', 1)[1].split('\n## ')[0]
    return re.findall(r'```\w+\n(.*?)```', section, re.S)[number]


def _write_data(folder):
    (folder / 'images').mkdir(parents=True)
    cv2.imwrite(str(folder / 'images' / 'a.png'), np.zeros((40, 60, 3), np.uint8))
    content = dict(
        images=[dict(id=1, file_name='a.png', height=40, width=60)],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
        annotations=[dict(id=1, image_id=1, category_id=2, bbox=[5, 5, 20, 9], area=180)],
    )
    for name in ('train.json', 'val.json'):
        (folder / name).write_text(json.dumps(content))


def test_five_lines_for_your_own_data(tmp_path, monkeypatch):
    lines = _block(OWN_DATA)
    assert len(lines.splitlines()) == 5
    (tmp_path / 'mine.py').write_text(lines)
    _write_data(tmp_path / 'data' / 'mine')
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile('mine.py')
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    assert cfg.val_evaluator == cfg.test_evaluator
    assert cfg.val_evaluator.ann_file == 'data/mine/val.json'
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        sample = DATASETS.build(cfg[name].dataset)[0]['data_samples']
        assert sample.gt_instances.labels.tolist() == [1]
        assert max(sample.img_shape) == 1200 or name == 'train_dataloader'


@pytest.mark.slow
def test_own_schedule(tmp_path, monkeypatch):
    """Best checkpoint, averaged weights, early stop, TensorBoard: all work."""
    data = write_dataset(tmp_path / 'data' / 'mine')
    for name in ('train.json', 'val.json'):
        (data / name).write_text((data / 'annotations.json').read_text())
    lines = (_block(OWN_DATA) + _block(OWN_DATA, 2)).replace("('cat', 'dog')", "('light', 'dark')")
    (tmp_path / 'mine.py').write_text(lines)
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile('mine.py')
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.0025, momentum=0.9, weight_decay=1e-4
    )
    assert [s.end for s in cfg.param_scheduler] == [300, 3000]
    cfg.merge_from_dict(small_options(data))  # data, model and image size
    cfg.merge_from_dict(
        {
            'train_cfg.max_iters': 100,
            'train_cfg.val_interval': 2,
            'default_hooks.checkpoint.interval': 2,
            'custom_hooks.3.patience': 1,
            'custom_hooks.3.min_delta': 1.0,
            'work_dir': 'work',
        }
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert 2 <= runner.iter < 20  # stopped: the AP cannot rise by 1
    (best,) = (tmp_path / 'work').glob('best_coco_bbox_mAP_iter_*.pth')
    saved = torch.load(best, weights_only=False)
    assert any('ema' in key for key in saved)
    assert list((tmp_path / 'work').rglob('events.out.tfevents*'))


@pytest.mark.parametrize('link', sorted(set(re.findall(r'\]\(([^)]+)\)', README))))
def test_links_lead_somewhere(link):
    assert link.startswith('https://') or (ROOT / link.partition('#')[0]).exists()


def test_configs_and_tools_exist():
    configs = re.findall(r'`(centernet2?/[\w.+-]+\.py)`', README)
    assert configs
    for config in configs:
        assert (ROOT / 'configs' / config).is_file()
    for line in _block('Which config, how good, how to run it').splitlines():
        words = shlex.split(line)
        assert (ROOT / words[1]).is_file(), line
