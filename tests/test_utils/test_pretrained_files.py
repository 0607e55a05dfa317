"""A missing file of pretrained weights is said before training, with help."""

import argparse
import shlex

import pytest
import torch
from mmengine.config import Config, DictAction

from mmdet_centernet2.checkpoint.cli import main
from mmdet_centernet2.utils.preflight import (PreflightError,
                                              check_pretrained, check_train)
from mmdet_centernet2.utils.pretrained_files import missing_pretrained
from tests.paths import CONFIGS
from tests.test_checkpoint.test_backbones import light

DLA_CONFIG = CONFIGS / 'centernet2' / (
    'centernet2_dla34_bifpn-p5_crop640-16x_coco.py')
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
    shown = said.split('made by: ')[1].splitlines()[0]
    make_folder, _, convert = shown.partition(' && ')
    assert make_folder == 'mkdir -p checkpoints'
    (tmp_path / 'checkpoints').mkdir()
    program, tool, source, *options = shlex.split(convert)
    assert (program, tool) == (
        'python', 'tools/model_converters/detectron2_to_mmdet.py')
    torch.save(light('dla34'), source)
    assert main([source, *options]) == 0
    check_pretrained(config)


def test_no_folder_is_made_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'checkpoints').mkdir()
    assert 'mkdir' not in refusal(Config.fromfile(DLA_CONFIG))


def test_the_option_that_is_shown_does_without(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile(DLA_CONFIG)
    option = refusal(config).rpartition('--cfg-options ')[2]
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    config.merge_from_dict(
        parser.parse_args(['--cfg-options', option]).cfg_options)
    check_pretrained(config)


def test_names_of_open_mmlab_are_left_to_mmengine():
    check_pretrained(Config.fromfile(R50_CONFIG))


def test_files_are_found_wherever_a_model_starts_from_one():
    there = dict(type='Pretrained', checkpoint=__file__)
    lost = dict(type='Pretrained', checkpoint='lost.pth')
    model = dict(
        backbone=dict(type='ResNet', init_cfg=there),
        neck=[dict(type='FPN', init_cfg=[dict(type='Xavier'), lost])],
        init_cfg=dict(lost, checkpoint='whole.pth'))
    missing = missing_pretrained(Config(dict(model=model)))
    assert [(file.key, file.path) for file in missing] == [
        ('model.init_cfg.checkpoint', 'whole.pth'),
        ('model.neck.0.init_cfg.1.checkpoint', 'lost.pth')]
    assert [file.command() for file in missing] == [None, None]


@pytest.mark.parametrize('backbone, command', [
    (dict(type='DLA', depth=60), 'detectron2_to_mmdet.py dla60.pth lost.pth'),
    (dict(type='CaffeRes2Net'), 'detectron2_to_mmdet.py r2_101.pkl lost.pth'),
    (dict(type='MobileNetV2'),
     'torchvision_mobilenetv2_to_mmdet.py fetch lost.pth'),
])
def test_commands_of_other_backbones(backbone, command):
    backbone['init_cfg'] = dict(type='Pretrained', checkpoint='lost.pth')
    missing, = missing_pretrained(Config(dict(model=dict(backbone=backbone))))
    assert command in missing.command()


def test_training_stops_before_it_starts(tmp_path, monkeypatch):
    """The data are there, only the weights are not."""
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile(DLA_CONFIG)
    config.train_dataloader = config.val_dataloader = dict(dataset={})
    config.val_evaluator = {}
    config.dump(tmp_path / 'config.py')
    args = argparse.Namespace(
        config=str(tmp_path / 'config.py'), cfg_options=None, resume=None,
        work_dir=None)
    with pytest.raises(PreflightError, match='dla34_mmdet.pth'):
        check_train(args)
