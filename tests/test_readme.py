"""What the README shows works as it stands there."""
import json
import re
import shlex

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config

from tests.paths import ROOT

README = (ROOT / 'README.md').read_text()


def _block(heading: str) -> str:
    """First block of code under a heading."""
    section = README.split(f'## {heading}\n', 1)[1]
    return re.search(r'```\w+\n(.*?)```', section, re.S).group(1)


def _write_data(folder):
    (folder / 'images').mkdir(parents=True)
    cv2.imwrite(
        str(folder / 'images' / 'a.png'), np.zeros((40, 60, 3), np.uint8))
    content = dict(
        images=[dict(id=1, file_name='a.png', height=40, width=60)],
        categories=[dict(id=1, name='cat'),
                    dict(id=2, name='dog')],
        annotations=[
            dict(id=1, image_id=1, category_id=2, bbox=[5, 5, 20, 9], area=180)
        ])
    for name in ('train.json', 'val.json'):
        (folder / name).write_text(json.dumps(content))


def test_five_lines_for_your_own_data(tmp_path, monkeypatch):
    lines = _block('Train on your own COCO-format data')
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


@pytest.mark.parametrize('link', sorted(set(re.findall(r'\]\(([^)]+)\)',
                                                       README))))
def test_links_lead_somewhere(link):
    assert link.startswith('https://') or (ROOT / link).exists()


def test_configs_and_tools_exist():
    configs = re.findall(r'`(centernet2?/[\w.+-]+\.py)`', README)
    assert configs
    for config in configs:
        assert (ROOT / 'configs' / config).is_file()
    for line in _block('Which config, how good, how to run it').splitlines():
        words = shlex.split(line)
        assert (ROOT / words[1]).is_file(), line
