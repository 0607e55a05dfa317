"""A missing file of pretrained weights is said before training, with help."""

import argparse
import runpy
import shlex
import sys

import pytest
import torch
from mmengine.config import Config, DictAction

from mmdet_centernet2.cli.checks import PreflightError, check_pretrained, check_train
from mmdet_centernet2.cli.convert import main
from tests._tiny import tiny_config, write_dataset
from tests.paths import CONFIGS, ROOT
from tests.test_checkpoint.test_backbones import light

DLA_CONFIG = CONFIGS / 'centernet2' / ('centernet2_dla34_bifpn-p5_crop640-16x_coco.py')
R50_CONFIG = CONFIGS / 'centernet2' / 'centernet2_r50-caffe_fpn_ms-1x_coco.py'
KEY = 'model.backbone.init_cfg.checkpoint'


def refusal(config) -> str:
    with pytest.raises(PreflightError) as caught:
        check_pretrained(config)
    return str(caught.value)


def test_the_command_that_is_shown_makes_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile(DLA_CONFIG)
    said = refusal(config)
    assert f"{KEY} = 'checkpoints/dla34_mmdet.pth'" in said
    shown = said.split('converted by: ')[1].splitlines()[0]
    make_folder, _, convert = shown.partition(' && ')
    assert make_folder == 'mkdir -p checkpoints'
    (tmp_path / 'checkpoints').mkdir()
    program, tool, source, *options = shlex.split(convert)
    assert (program, tool) == ('python', 'tools/model_converters/detectron2_to_mmdet.py')
    torch.save(light('dla34'), source)
    assert main([source, *options]) == 0
    check_pretrained(config)


def test_the_option_that_is_shown_does_without(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile(DLA_CONFIG)
    option = refusal(config).rpartition('--cfg-options ')[2]
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    config.merge_from_dict(parser.parse_args(['--cfg-options', option]).cfg_options)
    check_pretrained(config)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No network, and torch's cache in a folder of the test."""
    for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'):
        monkeypatch.setenv(name, 'http://127.0.0.1:9')  # nobody listens
    for name in ('no_proxy', 'NO_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    return tmp_path / 'torch/hub/checkpoints'


@pytest.mark.parametrize(
    'name',
    [
        'open-mmlab://detectron2/resnet50_caffe',
        'torchvision://resnet50',
        'https://example.com/r50.pth',
    ],
)
def test_training_offline_says_in_one_line_what_it_needs(
    offline, name, tmp_path, capfd, monkeypatch
):
    """The command itself, with data that are there."""
    write_dataset(tmp_path / 'data')
    config = tiny_config(tmp_path / 'data')
    config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=name)
    config.dump(tmp_path / 'config.py')
    monkeypatch.setattr(
        sys, 'argv', ['train.py', str(tmp_path / 'config.py'), '--work-dir', str(tmp_path / 'work')]
    )
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')
    assert end.value.code == 2
    (said,) = (
        line
        for line in capfd.readouterr().err.splitlines()
        if 'error:' in line and 'Error:' in line
    )
    assert said.startswith(f'train.py: error: {KEY} = {name!r} cannot be')
    assert 'docs/pretrained.md' in said and f'{KEY}=FILE' in said
    assert str(offline) in said
    assert '--cfg-options model.backbone.init_cfg=None' in said
    assert not (tmp_path / 'work').exists()


def test_weights_in_the_cache_need_no_network(offline):
    config = Config.fromfile(R50_CONFIG)
    offline.mkdir(parents=True)
    torch.save({}, offline / 'resnet50_msra-5891d200.pth')
    check_pretrained(config)


def test_a_name_that_nobody_knows(offline):
    config = Config(
        dict(
            model=dict(
                backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://none'))
            )
        )
    )
    assert f"{KEY} = 'open-mmlab://none' cannot be" in refusal(config)


def test_files_are_found_wherever_a_model_starts_from_one():
    there = dict(type='Pretrained', checkpoint=__file__)
    lost = dict(type='Pretrained', checkpoint='lost.pth')
    model = dict(
        backbone=dict(type='ResNet', init_cfg=there),
        neck=[dict(type='FPN', init_cfg=[dict(type='Xavier'), lost])],
        init_cfg=dict(lost, checkpoint='whole.pth'),
    )
    said = refusal(Config(dict(model=model)))
    assert "model.init_cfg.checkpoint = 'whole.pth'" in said
    assert "model.neck.0.init_cfg.1.checkpoint = 'lost.pth'" in said
    assert __file__ not in said


def test_training_stops_before_it_starts(tmp_path, monkeypatch):
    """The data are there, only the weights are not."""
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile(DLA_CONFIG)
    config.train_dataloader = config.val_dataloader = dict(dataset={})
    config.val_evaluator = {}
    config.dump(tmp_path / 'config.py')
    args = argparse.Namespace(
        config=str(tmp_path / 'config.py'), cfg_options=None, resume=None, work_dir=None
    )
    with pytest.raises(PreflightError, match='dla34_mmdet.pth'):
        check_train(args)
