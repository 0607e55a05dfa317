"""The config inside a checkpoint is data."""

import pytest
from mmengine.config import Config

from mmdet_centernet2.checkpoint import CheckpointError
from mmdet_centernet2.checkpoint.config_text import config_of_checkpoint, parse_config
from mmdet_centernet2.cli import convert
from tests.paths import CONFIGS


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('centernet*/*.py')), ids=lambda p: p.stem)
def test_what_mmengine_writes_is_read(path):
    config = convert.load_config(path)
    text = config.pretty_text
    assert parse_config(text) == Config.fromstring(text, '.py').to_dict()
    found = config_of_checkpoint(dict(meta=dict(cfg=text)), 'x.pth')
    assert found.model.to_dict() == config.to_dict()['model']


@pytest.mark.parametrize(
    'text',
    [
        'a = 1\nimport os',
        "a = __import__('os').getcwd()",
        "a = dict(b=[open('f')])",
        'a = [i for i in (1,)]',
        "a = f'{1}'",
        'a = b = 1',
        'a.b = 1',
        'a: (1).bit_length() = 1',
        "a = dict({'b': 1}, **c)",
        'a = {**b}',
        '@a\nclass b: pass',
        'a = lambda: 0',
        'a = b',
    ],
)
def test_code_is_refused(text):
    with pytest.raises(ValueError, match=r'line [12]|malformed'):
        parse_config(text)


GOOD = "test_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=[]))\n"


@pytest.mark.parametrize(
    'model',
    [
        "dict(type='os.system', command='true')",
        "dict(type='subprocess.Popen', args='true')",
        "dict(type='antigravity')",
        "dict(type='mmengine.dump', obj=1, file='x.json')",
        "dict(type='CenterNet2', test_cfg=dict(nms=dict(type='print(1)')))",
        'dict(type=1)',
        '[' * 5000 + ']' * 5000,
        "open('x')",
    ],
)
def test_what_a_type_would_import_or_run_is_refused(model):
    with pytest.raises(CheckpointError, match='Give the config file'):
        config_of_checkpoint(dict(meta=dict(cfg=f'{GOOD}model = {model}')), 'x.pth')


@pytest.mark.parametrize('content', [{}, dict(meta=1), dict(message_hub=[1], meta=dict(cfg=3))])
def test_no_config(content):
    with pytest.raises(CheckpointError, match='holds no config'):
        config_of_checkpoint(content, 'x.pth')
