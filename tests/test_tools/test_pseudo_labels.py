"""The tool makes labels, says what is wrong, and goes on."""
import importlib.util
import json

import pytest
import torch
from mmdet.registry import MODELS

from mmdet_centernet2.checkpoint import CheckpointError
from mmdet_centernet2.utils.preflight import PreflightError
from tests._tiny import CLASSES, PICTURES, tiny_config, write_dataset
from tests.paths import ROOT


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/dataset_converters/pseudo_labels.py'
    spec = importlib.util.spec_from_file_location('pseudo_labels_tool', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    """Config and checkpoint of a tiny detector that has seen nothing."""
    root = tmp_path_factory.mktemp('detector')
    data = write_dataset(root / 'data')
    cfg = tiny_config(data, model__test_cfg__rcnn__score_thr=0.)
    cfg.dump(root / 'tiny.py')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), root / 'tiny.pth')
    return root


def arguments(detector, out, images=None, *more):
    images = images or detector / 'data/images'
    return [
        str(arg) for arg in (detector / 'tiny.py', detector / 'tiny.pth',
                             images, out, '--device', 'cpu', '--workers', 0,
                             *more)
    ]


def test_a_folder(tool, detector, tmp_path, capsys):
    out = tmp_path / 'out.json'
    tool.main(arguments(detector, out, None, '--score-thr', 0.01,
                        '--batch-size', 4))
    content = json.loads(out.read_text())
    assert len(content['images']) == len(PICTURES)
    assert [c['name'] for c in content['categories']] == list(CLASSES)
    assert content['annotations']
    for annotation in content['annotations']:
        left, top, width, height = annotation['bbox']
        # 96 x 128 pixels, detected on at 96 x 128
        assert 0 <= left and left + width <= 128.001
        assert 0 <= top and top + height <= 96.001
        assert annotation['score'] >= 0.01
    shown = capsys.readouterr().out
    assert 'ETA' in shown and f'labels on {len(PICTURES)} of' in shown


def test_ids_of_another_file(tool, detector, tmp_path):
    out, listed = tmp_path / 'out.json', detector / 'data/annotations.json'
    known = tmp_path / 'known.json'
    known.write_text(json.dumps(dict(images=[], categories=[
        dict(id=30, name=CLASSES[1]), dict(id=10, name=CLASSES[0])])))
    tool.main(arguments(detector, out, listed, '--img-dir',
                        detector / 'data/images', '--categories', known))
    content = json.loads(out.read_text())
    assert [c['id'] for c in content['categories']] == [10, 30]
    listed_images = json.loads(listed.read_text())['images']
    assert content['images'] == listed_images


def test_what_is_wrong_is_said_first(tool, detector, tmp_path):
    out = tmp_path / 'out.json'
    with pytest.raises(PreflightError, match='no folder'):
        tool.main(arguments(detector, out, tmp_path / 'nowhere'))
    with pytest.raises(PreflightError, match='--img-dir'):
        tool.main(arguments(detector, out, tmp_path / 'list.json'))
    with pytest.raises(PreflightError, match='config .* does not exist'):
        tool.main(['no.py', *arguments(detector, out)[1:]])
    with pytest.raises(CheckpointError, match='does not exist'):
        arguments_ = arguments(detector, out)
        arguments_[1] = 'no.pth'
        tool.main(arguments_)
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_cannot_be_read(tool, detector, tmp_path):
    images = tmp_path / 'images'
    images.mkdir()
    (images / 'a.png').write_bytes(b'')
    for workers in (0, 1):
        with pytest.raises(PreflightError) as error:
            tool.main(arguments(detector, tmp_path / 'out.json', images,
                                '--workers', workers))
        assert str(error.value).startswith('image ')
        assert 'a.png is empty' in str(error.value)
        assert 'out.json.partial' in str(error.value)
