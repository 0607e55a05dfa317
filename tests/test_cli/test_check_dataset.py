"""``tools/check_dataset.py``: what it prints, and its exit status."""

import subprocess
import sys

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmdet_centernet2.cli import check_dataset
from tests._tiny import FLAGSHIP
from tests.paths import ROOT
from tests.test_datasets import exports
from tests.test_datasets.test_exports import REFUSED

CLASSES = ('cat', 'dog')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data set of two splits and a config of five lines for it."""
    exports.write(tmp_path)
    exports.write(tmp_path, split='val')
    meta = f'metainfo=dict(classes={CLASSES})'
    data = f"data_root='{tmp_path}/', data_prefix=dict(img='images/'), {meta}"
    (tmp_path / 'five.py').write_text(f"""
_base_ = '{FLAGSHIP}'
model = dict(roi_head=dict(bbox_head=dict(num_classes=2)))
train_dataloader = dict(dataset=dict(ann_file='train.json', {data}))
val_dataloader = dict(dataset=dict(ann_file='val.json', {data}))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(ann_file='{tmp_path}/val.json')
""")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(folder, capsys, monkeypatch, *options):
    """Exit status and output of the tool, in this process."""
    monkeypatch.setenv('COLUMNS', '1000')
    monkeypatch.setattr(sys, 'argv', ['check_dataset.py', str(folder / 'five.py'), *options])
    status = check_dataset.main()
    return status, capsys.readouterr().out


@pytest.mark.slow
def test_the_command(folder):
    command = [sys.executable, str(ROOT / 'tools' / 'check_dataset.py'), 'five.py']
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '4 images (0 without objects), 12 objects, 0 crowds' in done.stdout
    assert 'perfect detections: coco/bbox_mAP 1.000' in done.stdout
    assert '12 objects of 4 images after the training pipeline' in done.stdout
    assert done.stdout.rstrip().endswith('No faults.')
    with Image.open(folder / 'work_dirs/check_dataset/five.png') as picture:
        assert np.asarray(picture.convert('L')).std() > 10


@pytest.mark.parametrize('split', ['train', 'val'])
def test_faults_of_annotations(folder, capsys, monkeypatch, split):
    change, message = REFUSED['corners']
    exports.write(folder, change, split)
    status, said = run(folder, capsys, monkeypatch)
    assert status == 1 and '1 faults.' in said
    assert message in said and f'{split}.json' in said


def test_all_images_of_another_size_are_listed(folder, capsys, monkeypatch):
    for name in ('train_1.png', 'train_3.png'):
        path = folder / 'images' / name
        Image.open(path).resize((80, 60)).save(path)
    Image.fromarray(np.ones((120, 160), np.float32)).save(
        folder / 'images' / 'val_0.png', format='TIFF'
    )
    (folder / 'images' / 'val_1.png').write_bytes(b'no picture')
    sixteen_bits = Image.fromarray(np.full((120, 160), 999, np.uint16))
    sixteen_bits.save(folder / 'images' / 'val_2.png', format='PPM')  # is read
    status, said = run(folder, capsys, monkeypatch)
    assert status == 1
    assert 'FAULT  2 images cannot be trained on' in said
    for words in (
        'train_1.png is 80x60, its annotation says 160x120',
        'train_3.png',
        'mode F',
        'val_1.png: cannot identify',
    ):
        assert words in said
    assert 'val_2.png' not in said


def test_images_turned_by_exif(folder, capsys, monkeypatch):
    for number, orientation in ((0, 6), (1, 3)):
        path = folder / 'images' / f'train_{number}.png'
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(path).save(path, exif=exif)
    status, said = run(folder, capsys, monkeypatch)
    assert status == 1
    assert 'is 120x160 with EXIF orientation 6, its annotation' in said
    assert '1 images are mirrored or upside down' in said


def test_heads_and_levels(folder, capsys, monkeypatch):
    status, said = run(
        folder,
        capsys,
        monkeypatch,
        '--cfg-options',
        'model.roi_head.bbox_head.num_classes=3',
        'model.rpn_head.regress_ranges=[(0,1),(1,2),(2,3),(3,4),(4,5)]',
    )
    assert status == 1
    assert 'model.roi_head.bbox_head.num_classes = 3' in said
    assert '12 of 12 objects fall on no level' in said


def test_more_objects_than_evaluation_counts(folder, capsys, monkeypatch):

    def crowded(js, _):
        one = js['annotations'][0]
        js['annotations'] = [dict(one, id=i + 1, bbox=[i, 5, 20, 20]) for i in range(120)]

    exports.write(folder, crowded, 'val')
    status, said = run(folder, capsys, monkeypatch)
    assert status == 1
    assert 'has 120 objects of a class' in said and 'it must be 1.0' in said
    assert 'at most max_per_img=100' in said


def test_what_is_worth_a_look(folder, capsys, monkeypatch):

    def change(js, _):
        js['annotations'].append(dict(js['annotations'][0], id=99))
        js['annotations'] = [a for a in js['annotations'] if a['category_id'] == 1]
        js['images'][0]['file_name'] = 'train_0.png'

    exports.write(folder, change, 'val')
    status, said = run(folder, capsys, monkeypatch)
    assert status == 0
    assert '1 boxes stand more than once' in said
    assert "1 classes have no object: ['dog']" in said
    assert '1 images of val_dataloader are trained on as well' in said


@pytest.mark.parametrize(
    'name',
    ['centernet2-mask_dla34_crop640-8x_nuimages', 'centernet2-fed_r50-caffe_fpn_ms-rfs-1x_lvis-v1'],
)
def test_masks_and_lvis(tmp_path, capsys, monkeypatch, name):
    """Perfect detections with the metrics of other families."""
    cfg = Config.fromfile(ROOT / 'configs' / 'centernet2' / f'{name}.py')
    lvis = 'lvis' in name
    exports.write(tmp_path, lvis=lvis)
    options = {'model.roi_head.bbox_head.num_classes': 2}
    if not lvis:
        options['model.roi_head.mask_head.num_classes'] = 2
    for split in ('train', 'val', 'test'):
        options[f'{split}_dataloader.dataset'] = dict(
            data_root=f'{tmp_path}/',
            ann_file='train.json',
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=CLASSES),
        )
        if split != 'train':
            options[f'{split}_evaluator.ann_file'] = f'{tmp_path}/train.json'
    cfg.merge_from_dict(options)
    cfg.dump(tmp_path / 'five.py')
    monkeypatch.chdir(tmp_path)
    status, said = run(tmp_path, capsys, monkeypatch)
    assert status == 0, said
    assert ('lvis/bbox_AP 1.000' if lvis else 'coco/bbox_mAP 1.000, coco/segm_mAP 1.000') in said
