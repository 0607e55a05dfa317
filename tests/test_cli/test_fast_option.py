"""``--fast`` in front of a tool that does not know it."""

import sys
from argparse import ArgumentParser
from types import SimpleNamespace

import pytest
from mmengine.config import DictAction

from mmdet_centernet2.cli.image_demo import build_parser
from mmdet_centernet2.cli.mmdet_tools import accept_fast_option


def parse_tool():
    """As mmdet's tools parse: from the command line of the process."""
    parser = ArgumentParser()
    parser.add_argument('config')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


@pytest.fixture
def parse(tmp_path, monkeypatch):
    config = tmp_path / 'config.py'
    config.write_text("custom_hooks = [dict(type='CheckInvalidLossHook'), dict(type='EMAHook')]")

    def run(*options):
        monkeypatch.setattr(sys, 'argv', ['test.py', str(config), *options])
        tool = SimpleNamespace(parse_args=parse_tool)
        accept_fast_option(tool)
        return tool.parse_args().cfg_options

    return run


def test_hook_comes_behind_those_of_the_config(parse):
    assert parse('--fast', 'bf16') == dict(
        custom_hooks=[
            dict(type='CheckInvalidLossHook'),
            dict(type='EMAHook'),
            dict(type='FastInferenceHook', mode='bf16'),
        ]
    )


def test_other_options_stay(parse):
    found = parse('--cfg-options', 'work_dir=x', '--fast', 'exact')
    assert found['work_dir'] == 'x'
    assert found['custom_hooks'][-1]['mode'] == 'exact'


def test_nothing_without_it(parse):
    assert parse() is None


def test_unknown_mode(parse, capsys):
    with pytest.raises(SystemExit):
        parse('--fast', 'fp4')
    assert 'choose from' in capsys.readouterr().err


def test_image_demo_has_it():
    args = build_parser().parse_args(['x.jpg', 'config.py', '--fast', 'bf16'])
    assert args.fast == 'bf16'
