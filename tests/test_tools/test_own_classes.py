"""README's five lines on the quickstart's config, from training to pictures.

Its own data set has one class and one colour, these data have two.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests._tiny import PICTURES, write_dataset
from tests.paths import CONFIGS
from tests.test_tools.test_mmdet_tools import refusal, run_tool

BASE = CONFIGS / 'centernet2/centernet2_mobilenet-v2_fpn_tree-tiles.py'
LINES = """
_base_ = {base!r}
model = dict(roi_head=dict(bbox_head=dict(num_classes=2)))
train_dataloader = dict(dataset=dict(data_root={data!r}, ann_file='annotations.json', data_prefix=dict(img='images/'), metainfo=dict(classes=('light', 'dark'))))
val_dataloader = test_dataloader = dict(dataset=dict(data_root={data!r}, ann_file='annotations.json', data_prefix=dict(img='images/'), metainfo=dict(classes=('light', 'dark'))))
val_evaluator = test_evaluator = dict(ann_file={data!r} + 'annotations.json')
"""  # noqa: E501


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Holds data, the config and a checkpoint of one iteration."""
    folder = tmp_path_factory.mktemp('own')
    write_dataset(folder / 'data')
    (folder / 'mine.py').write_text(LINES.format(base=str(BASE), data=f'{folder}/data/'))
    run_tool(
        'train.py',
        folder / 'mine.py',
        f'--work-dir {folder}/work --cfg-options model.backbone.init_cfg=None train_cfg.max_iters=1'
        ' train_dataloader.batch_size=1 val_cfg=None val_dataloader=None val_evaluator=None'
        # something is found
        ' model.test_cfg.rcnn.score_thr=0.0 test_dataloader.dataset.pipeline.1.scale=(64,64)',
    )
    return folder


@pytest.fixture(scope='module')
def old_checkpoint(folder):
    """As trained when the inherited colour was kept and mmdet's drawer used."""
    checkpoint = torch.load(folder / 'work/iter_1.pth', weights_only=False)
    checkpoint['meta']['dataset_meta']['palette'] = [(57, 255, 20)]
    runtime = checkpoint['message_hub']['runtime_info']
    runtime['cfg'] = runtime['cfg'].replace('CenterNet2Visualizer', 'DetLocalVisualizer')
    torch.save(checkpoint, folder / 'old.pth')
    return folder / 'old.pth'


def test_pictures_of_test(folder, tmp_path):
    options = f'--work-dir {tmp_path} --show-dir shown'
    options += ' --cfg-options model.test_cfg.rcnn.score_thr=0.0'
    run_tool('test.py', folder / 'mine.py', folder / 'work/iter_1.pth', options)
    assert len(list(tmp_path.glob('*/shown/*.png'))) == len(PICTURES)


@pytest.fixture(scope='module')
def weights_alone(folder):
    """Without the names of classes, which are then the config's."""
    checkpoint = torch.load(folder / 'work/iter_1.pth', weights_only=False)
    torch.save(checkpoint['state_dict'], folder / 'weights.pth')
    return folder / 'weights.pth'


@pytest.mark.parametrize(
    'file, alone', [('old_checkpoint', True), ('old_checkpoint', False), ('weights_alone', False)]
)
def test_pictures_and_names(folder, file, alone, tmp_path, request):
    file = request.getfixturevalue(file)
    model = [file] if alone else [folder / 'mine.py', '--weights', file]
    image = folder / 'data/images/000.png'
    run_tool('image_demo.py', image, *model, '--out-dir', tmp_path, '--pred-score-thr', '0.0')
    found = json.loads((tmp_path / 'preds/000.json').read_text())
    assert len(found['labels']) > 0
    assert found['label_names'] == [('light', 'dark')[label] for label in found['labels']]
    drawn = np.array(Image.open(tmp_path / 'vis/000.png'))
    assert (drawn != np.array(Image.open(image))).any()


def test_nothing_above_the_threshold_is_said(folder, tmp_path, capsys):
    options = f'--out-dir {tmp_path} --pred-score-thr 0.99 --batch-size 4'
    run_tool('image_demo.py', folder / 'data/images', folder / 'work/iter_1.pth', options)
    best = max(
        max(json.loads(path.read_text())['scores']) for path in (tmp_path / 'preds').iterdir()
    )
    said = capsys.readouterr()
    assert (
        f'No box above 0.99 in 6 of 6 images; the best score there is '
        f'{best:.4f}: lower --pred-score-thr'
    ) in said.out + said.err


def test_a_video_is_called_one(folder, tmp_path, capsys):
    video = tmp_path / 'street.MP4'
    video.write_bytes(b'\0' * 99)
    said = refusal(capsys, 'image_demo.py', video, folder / 'mine.py')
    assert f'video {video} cannot be decoded' in said and said.count('\n') == 1


def test_heads_with_another_number_of_classes(folder, tmp_path, capsys):
    text = (folder / 'mine.py').read_text()
    (folder / 'three.py').write_text(text.replace('num_classes=2', 'num_classes=3'))
    image, options = folder / 'data/images/000.png', f'--out-dir {tmp_path}'
    said = refusal(capsys, 'image_demo.py', image, folder / 'three.py', options)
    assert "has 2 classes ('light', 'dark')" in said
    assert 'model.roi_head.bbox_head.num_classes = 3' in said
