"""The converter as a command: files in, files out, nothing half done."""

import os
import pickle

import mmengine
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_centernet2.checkpoint import convert_state_dict, read_checkpoint
from mmdet_centernet2.cli.convert import main

from ._synthetic import FLAGSHIP, FLAGSHIP_CONFIG, same_bits, synthetic, synthetic_backbone


@pytest.fixture
def source(tmp_path):
    """A checkpoint of the original flagship, in few bytes."""
    path = tmp_path / 'original.pth'
    # As detectron2 leaves it: with the optimizer and the iteration.
    torch.save(
        dict(
            model=synthetic(FLAGSHIP),
            iteration=89999,
            optimizer=dict(state={}, param_groups=[dict(lr=2e-4, params=[0, 1])]),
            scheduler=dict(last_epoch=90000),
        ),
        path,
    )
    return path


def _convert(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def _refused(capsys, target, *arguments) -> str:
    """What is said by a run that must fail and leave nothing behind."""
    before = sorted(target.parent.iterdir())
    assert _convert(*arguments) == 2
    assert sorted(target.parent.iterdir()) == before
    return capsys.readouterr().err


def test_summary_says_what_became_of_the_tensors(source, tmp_path, capsys):
    assert _convert(source, tmp_path / 'new.pth') == 0
    content = torch.load(tmp_path / 'new.pth', weights_only=True)
    assert sorted(content) == ['meta', 'state_dict']
    assert content['meta']['source'] == 'original.pth'
    names = content['meta']['dataset_meta']
    assert names['classes'][:2] == ('person', 'bicycle') and len(names['palette']) == 80
    said = capsys.readouterr().out
    assert 'Read 330 tensors' in said
    assert 'resnet backbone, fpn neck, cascaded second stage' in said
    assert '53 tensors that the original does not have' in said
    assert 'num_batches_tracked = 0' in said


def _config_with_classes(number, path):
    config = Config.fromfile(FLAGSHIP_CONFIG)
    config.model.roi_head.bbox_head.num_classes = number
    mmengine.dump(config.to_dict(), path)
    return path


def test_wrong_number_of_classes(source, tmp_path, capsys):
    config = _config_with_classes(3, tmp_path / 'three.json')
    target = tmp_path / 'new.pth'
    said = _refused(capsys, target, source, target, '--config', config)
    assert 'trained for 80 classes, the config has 3' in said
    assert 'model.roi_head.bbox_head.num_classes=80' in said
    assert '[81, 1024], the model has [4, 1024]' in said


def test_every_problem_is_told_at_once(source, tmp_path, capsys):
    content = torch.load(source)
    model = content['model']
    lost = 'proposal_generator.centernet_head.agn_hm.bias'
    del model[lost]
    model['roi_heads.new_head.weight'] = torch.ones(2)
    model['backbone.fpn_output3.bias'] = torch.ones(1, 256)
    torch.save(content, source)
    target = tmp_path / 'new.pth'
    said = _refused(capsys, target, source, target)
    assert f'rpn_head.conv_agn.bias (original name: {lost})' in said
    assert 'no place for (1):\n    roi_heads.new_head.weight' in said
    assert 'backbone.fpn_output3.bias): [1, 256], the model has [256]' in said
    assert f'{target} was not written' in said


def test_network_without_a_config_asks_for_one(tmp_path, capsys):
    # 80 classes are the flagship's; no zoo has 77.
    official = synthetic(FLAGSHIP)
    for k in range(3):
        name = f'roi_heads.box_predictor.{k}.cls_score.'
        official[name + 'weight'] = torch.ones(1).expand(78, 1024)
        official[name + 'bias'] = torch.ones(78)
    source, target = tmp_path / 'a.pth', tmp_path / 'b.pth'
    torch.save(official, source)
    said = _refused(capsys, target, source, target)
    assert 'num_classes=77' in said and '--config' in said
    config = _config_with_classes(77, tmp_path / 'mine.json')
    assert _convert(source, target, '--config', config) == 0
    assert 'dataset_meta' not in torch.load(target)['meta']  # 80 names for 77 classes


def test_checkpoint_of_another_network_is_refused(tmp_path, capsys):
    source, target = tmp_path / 'a.pth', tmp_path / 'b.pth'
    torch.save(synthetic('CenterNet2_DLA-BiFPN-P5_640_16x'), source)
    said = _refused(capsys, target, source, target, '--config', FLAGSHIP_CONFIG)
    assert 'not in the model' in said
    assert 'neck.resample.3.conv.bn.bias (original name: backbone.resample.' in said
    assert 'neck.lateral_convs.0.conv.weight' in said


class _Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


@pytest.mark.parametrize(
    'option', [(), ('--reverse',), ('--backbone-only',), ('--config', FLAGSHIP_CONFIG)]
)
def test_pickle_with_code_is_refused(tmp_path, capsys, option):
    sentinel = tmp_path / 'executed'
    source, target = tmp_path / 'evil.pkl', tmp_path / 'b.pth'
    source.write_bytes(pickle.dumps(dict(model=dict(a=_Touch(sentinel)))))
    said = _refused(capsys, target, source, target, *option)
    assert 'system' in said and 'not read' in said
    assert not sentinel.exists()


def test_nan_is_pointed_out(source, tmp_path, capsys):
    content = torch.load(source)
    broken = [f'backbone.fpn_output{level}.bias' for level in (3, 4, 5)]
    for name, value, dtype in zip(
        broken, ('nan', 'inf', '-inf'), (torch.float, torch.half, torch.bfloat16)
    ):
        content['model'][name] = torch.ones(256, dtype=dtype)
        content['model'][name][7] = float(value)
    torch.save(content, source)
    assert _convert(source, tmp_path / 'new.pth') == 0
    said = capsys.readouterr().err
    assert [line.strip() for line in said.splitlines()] == [
        'WARNING: NaN or infinite values in (3):',
        *broken,
    ]


def test_converted_checkpoint_is_not_converted_again(source, tmp_path, capsys):
    once, twice = tmp_path / 'once.pth', tmp_path / 'twice.pth'
    assert _convert(source, once) == 0
    assert '--reverse' in _refused(capsys, twice, once, twice)
    assert 'Leave out --reverse' in _refused(capsys, twice, source, twice, '--reverse')


def test_trained_checkpoint_of_ours_goes_back(tmp_path, capsys):
    """As mmengine saves it: with a meta of its own and a log history."""
    ours = convert_state_dict(synthetic(FLAGSHIP)).state_dict
    source, target = tmp_path / 'epoch_1.pth', tmp_path / 'd2.pth'
    torch.save(dict(state_dict=ours, meta=dict(epoch=1, iter=10), message_hub={}), source)
    assert _convert(source, target, '--reverse') == 0
    assert same_bits(read_checkpoint(target)['model'], synthetic(FLAGSHIP))


def test_reverse_refuses_names_without_a_place(tmp_path, capsys):
    ours = convert_state_dict(synthetic(FLAGSHIP)).state_dict
    ours['roi_head.iou_head.weight'] = torch.ones(3)
    source, target = tmp_path / 'a.pth', tmp_path / 'b.pth'
    torch.save(dict(state_dict=ours), source)
    said = _refused(capsys, target, source, target, '--reverse')
    assert 'roi_head.iou_head.weight' in said


def test_existing_target_is_kept(source, tmp_path, capsys):
    target = tmp_path / 'mine.pth'
    target.write_bytes(b'years of work')
    said = _refused(capsys, target, source, target)
    assert '--overwrite' in said
    assert target.read_bytes() == b'years of work'
    assert _convert(source, target, '--overwrite') == 0
    assert 'state_dict' in torch.load(target, weights_only=True)


def test_source_is_never_overwritten(source, tmp_path, capsys):
    before = source.read_bytes()
    link = tmp_path / 'link.pth'
    link.symlink_to(source)
    for target in (source, link):
        said = _refused(capsys, target, source, target, '--overwrite')
        assert 'is the file that is read' in said
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    'target, hint', [('', 'is a folder'), ('absent/new.pth', 'does not exist')]
)
def test_impossible_targets(source, tmp_path, capsys, target, hint):
    assert _convert(source, tmp_path / target) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    'text, hint',
    [
        (None, 'does not exist'),
        ('model = dict(', 'cannot be read'),
        ('x = 1', 'describes no model'),
        ("model = dict(type='NoSuchDetector')", 'NoSuchDetector'),
    ],
)
def test_bad_configs(source, tmp_path, capsys, text, hint):
    config, target = tmp_path / 'config.py', tmp_path / 'new.pth'
    if text is not None:
        config.write_text(text)
    said = _refused(capsys, target, source, target, '--config', config)
    assert hint in said and str(config) in said


def test_imagenet_pickle_initialises_a_backbone(tmp_path, capsys):
    source, target = tmp_path / 'R-50.pkl', tmp_path / 'r50.pth'
    weights = {
        name: value.numpy()
        for name, value in synthetic_backbone(FLAGSHIP).items()
        if '.running_' not in name
    }
    source.write_bytes(
        pickle.dumps(dict(model=weights, __author__='MSRA', matching_heuristics=True), 2)
    )
    assert _convert(source, target, '--backbone-only') == 0
    assert 'running_var = 1 - 1e-5' in capsys.readouterr().out
    backbone = MODELS.build(
        dict(
            type='ResNet',
            depth=50,
            style='caffe',
            init_cfg=dict(type='Pretrained', checkpoint=str(target)),
        )
    )
    backbone.init_weights()
    expected = torch.from_numpy(weights['res4.3.conv2.weight'].copy())
    assert torch.equal(backbone.layer3[3].conv2.weight, expected)
    assert float(backbone.bn1.running_var[0]) == pytest.approx(1 - 1e-5)
