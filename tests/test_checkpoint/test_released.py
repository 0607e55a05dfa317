"""Released weights by name, taken from a folder instead of the network."""

import json

import cv2
import gdown
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.runner import CheckpointLoader

from mmdet_centernet2.checkpoint import CheckpointError, read_checkpoint, zoo
from mmdet_centernet2.checkpoint.zoo import (
    FOLDER_VARIABLE,
    find_model,
    released_checkpoint,
    shipped_models,
)
from mmdet_centernet2.cli.main import main
from tests.test_checkpoint.test_every_model import weights_of

SMALL = 'CenterNet-S4_DLA_8x'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of our own, and a folder with one of the original's files."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / 'original'))
    (tmp_path / 'original').mkdir()
    return tmp_path / 'cache' / 'mmdet_centernet2' / 'downloads'


@pytest.fixture
def original(cache, tmp_path):
    path = tmp_path / 'original' / f'{SMALL}.pth'
    torch.save(dict(model=weights_of(SMALL)), path)
    return path


def test_every_released_model_has_a_name():
    models = [model for model in shipped_models() if model.drive_id]
    assert len(models) == 13
    assert len({model.drive_id for model in models}) == 13
    for model in models:
        assert find_model(model.original) == find_model(model.name) == model


def test_wherever_a_checkpoint_goes(original, cache):
    state = CheckpointLoader.load_checkpoint(f'centernet2://{SMALL}', 'cpu')['state_dict']
    original.unlink()  # it is in the cache now
    name = find_model(SMALL).name
    inferencer = DetInferencer(name, device='cpu', scope='mmdet_centernet2')  # from the metafile
    loaded = inferencer.model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)
    assert len(inferencer.model.dataset_meta['classes']) == 80
    assert sorted(path.suffix for path in cache.iterdir()) == ['.lock', '.pth']


def test_a_photo_and_a_name(original, cache, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ('photo.jpg', 'photo.png'):
        cv2.imwrite(name, np.zeros((8, 200, 3), np.uint8))  # long: small after resizing
    main(['predict', 'photo.jpg', 'photo.png', SMALL, '--device', 'cpu', '--pred-score-thr', '0'])
    found = json.loads((tmp_path / 'outputs/preds/photo.jpg.json').read_text())
    assert len(found['scores']) > 0
    assert (tmp_path / 'outputs/vis/photo.jpg').is_file()
    for words, message in (
        (['photo.jpg'], 'one image or more'),
        (['photo.jpg', 'CenterNet2_R5'], 'no model is called'),
        (['photo.jpg', 'mine.py'], 'give a checkpoint'),
    ):
        with pytest.raises(SystemExit):
            main(['predict', *words])
        assert message in capsys.readouterr().err
    main(['weights', SMALL])
    assert capsys.readouterr().out.strip().endswith(f'{SMALL}_mmdet.pth')


@pytest.mark.parametrize(
    'content, message',
    [
        (b'<!DOCTYPE html><html>quota exceeded</html>', 'is a web page'),
        (b'PK\x03\x04 cut off', 'damaged or cut off'),
        (None, 'does not hold CenterNet-S4_DLA_8x'),
    ],
)
def test_what_is_no_such_model_is_refused_and_not_kept(cache, monkeypatch, content, message):
    def download(id, output, resume):
        if content is None:
            torch.save(dict(model=weights_of('CenterNet2_DLA-BiFPN-P3_4x')), output)
        else:
            with open(output, 'wb') as file:
                file.write(content)

    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setattr(gdown, 'download', download)
    with pytest.raises(CheckpointError, match=message):
        released_checkpoint(SMALL)
    assert [path.suffix for path in cache.iterdir()] == ['.lock']


def test_a_download_is_converted_once(original, cache, monkeypatch):
    calls = []

    def download(id, output, resume):
        calls.append(id)
        original.rename(output)

    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setattr(gdown, 'download', download)
    path = released_checkpoint(f'centernet2://{SMALL}')
    assert released_checkpoint(SMALL) == path
    assert calls == [find_model(SMALL).drive_id]
    assert read_checkpoint(path)['meta']['source'] == f'{SMALL}.pth'


def test_a_download_that_could_not_be_saved_is_used_again(original, cache, monkeypatch):
    calls = []

    def download(id, output, resume):
        calls.append(id)
        original.rename(output)

    def full(content, target):
        raise CheckpointError('No space left on device')

    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setattr(gdown, 'download', download)
    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match='No space'):
        patch.setattr(zoo, 'save_checkpoint', full)
        released_checkpoint(SMALL)
    assert released_checkpoint(SMALL).is_file()
    assert len(calls) == 1
    assert sorted(path.suffix for path in cache.iterdir()) == ['.lock', '.pth']


def test_the_users_own_file_stays_in_the_cache_too(original, cache, monkeypatch):
    cache.mkdir(parents=True)
    own = original.rename(cache / original.name)
    monkeypatch.setenv(FOLDER_VARIABLE, str(cache))
    released_checkpoint(SMALL)
    assert own.is_file()


@pytest.mark.parametrize(
    'name, message',
    [
        ('CenterNet2_R50_9x', 'no model is called .* CenterNet2_R50_1x'),
        ('CenterNet2_R50_1x', 'original/CenterNet2_R50_1x.pth: does not exist'),
    ],
)
def test_errors(cache, name, message):
    with pytest.raises(CheckpointError, match=message):
        released_checkpoint(name)


def test_a_cache_that_cannot_be_written_is_named(cache):
    cache.parents[1].write_text('')
    with pytest.raises(CheckpointError, match='cannot write to .*XDG_CACHE_HOME'):
        released_checkpoint(SMALL)


def test_without_network_and_without_release(cache, monkeypatch):
    def download(id, output, resume):
        raise OSError('no\nroute')

    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setattr(gdown, 'download', download)
    with pytest.raises(CheckpointError, match=r'could not be fetched \(no route\).*FOLDER$'):
        released_checkpoint('CenterNet2_R50_1x')
    with pytest.raises(CheckpointError, match='released no weights'):
        released_checkpoint('CenterNet2-F_R50_1x')
