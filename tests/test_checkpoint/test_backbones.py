"""ImageNet weights of backbones, in every spelling that they come in."""

import gzip
import json
import re
import sys
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.runner.checkpoint import get_external_models

from mmdet_centernet2.checkpoint import (
    CheckpointError,
    check_against,
    convert_backbone,
    read_checkpoint,
)
from mmdet_centernet2.checkpoint.imagenet import imagenet_backbone
from mmdet_centernet2.checkpoint.zoo import released_checkpoint
from mmdet_centernet2.cli import convert
from mmdet_centernet2.cli.checks import PreflightError, check_pretrained
from mmdet_centernet2.cli.convert import build_parser, main
from tests.golden import golden_state_dict
from tests.paths import CONFIGS, DATA, ROOT

from ._synthetic import original_shapes, same_bits, synthetic_backbone

S4_CONFIG = CONFIGS / 'centernet' / 'centernet-s4_dla34_crop640-8x_coco.py'
R2_CONFIG = CONFIGS / 'centernet2' / 'centernet2_r2-101-mdconv-c4-c5_fpn_crop896-4x_coco.py'
X101_CONFIG = CONFIGS / 'centernet2' / 'centernet2_x101-32x8d-mdconv-c4-c5_fpn_ms-2x_coco.py'
R2 = 'CenterNet2_R2-101-DCN_896_4x'
R50 = 'CenterNet2_R50_1x'
# timm's network -> config of ours, projections that no output depends on.
NETWORKS = {
    'dla34': (dict(type='DLA', depth=34), ('level3', 'level4')),
    'dla60': (dict(type='DLA', depth=60), ('level3', 'level4.tree1', 'level4')),
    'res2net50d': (dict(type='Res2Net', depth=50, scales=4, base_width=26), ()),
    'res2net101d': (dict(type='Res2Net', depth=101, scales=4, base_width=26), ()),
}
# Networks with stored features -> the step between the channels kept of them.
STEPS = dict(dla34=1, dla60=2, res2net50d=4)


@cache
def timm_shapes():
    """timm's network -> tensor name -> shape."""
    with gzip.open(DATA / 'pretrained' / 'timm_state_dicts.json.gz') as file:
        return json.load(file)


@cache
def timm_weights(network):
    """A state dict of timm, with the values of the stored features."""
    shapes = timm_shapes()[network]
    weights = golden_state_dict(shapes.items(), [57.0])
    counters = {name: torch.tensor(5) for name in shapes if name not in weights}
    return {name: {**weights, **counters}[name] for name in shapes}


def light(network):
    """A state dict of timm in next to no memory."""
    return {
        name: torch.zeros((), dtype=torch.long if 'batches' in name else None).expand(shape)
        for name, shape in timm_shapes()[network].items()
    }


@cache
def fitting(network):
    """Names and shapes of our network that timm's weights are for."""
    state = convert_backbone(light(network)).state_dict
    return convert.model_state(imagenet_backbone(state), network)


def features_error(network, backbone) -> float:
    """Largest deviation from timm's features, in their own spread."""
    image = np.random.RandomState(0).standard_normal((1, 3, 32, 32))
    backbone.eval()
    with torch.no_grad():
        outs = backbone(torch.from_numpy(image.astype(np.float32)))
    with np.load(DATA / 'pretrained' / 'timm_features.npz') as stored:
        wanted = [stored[f'{network}.{i}'] for i in range(4)]
    assert len(outs) == 4
    found = [out[:, :: STEPS[network]].numpy() for out in outs]
    return max(np.abs(a - b).max() / b.std() for a, b in zip(found, wanted))


def built(network, path):
    """Our network, initialised from a converted file as in a config."""
    part = dict(NETWORKS[network][0])
    if part['type'] == 'DLA':
        part['out_indices'] = (2, 3, 4, 5)
    backbone = MODELS.build(dict(part, init_cfg=dict(type='Pretrained', checkpoint=str(path))))
    backbone.init_weights()
    if part['type'] == 'Res2Net':
        _pool_first_split(backbone.layer1[0])
    return backbone


def _pool_first_split(block):
    """Pool where the classifiers do and mmdet's and the original's do not."""
    block.pool, block.conv2_stride = torch.nn.AvgPool2d(3, 1, 1), None


def run_tool(source, target, *options) -> int:
    arguments = [source, target, '--backbone-only', *options]
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize('network', STEPS)
def test_converted_timm_weights_give_timms_features(network, tmp_path, capsys):
    source, target = tmp_path / 'timm.pth', tmp_path / 'ours.pth'
    torch.save(timm_weights(network), source)
    assert run_tool(source, target) == 0
    said = capsys.readouterr().out
    part, unused = NETWORKS[network]
    assert f'Checking it against {part}' in said
    assert 'fc.weight, fc.bias' in said  # kept aside
    assert (f'{6 * len(unused)} tensors that the original does not have: ' in said) == bool(unused)
    assert ('no output depends on' in said) == bool(unused)
    assert features_error(network, built(network, target)) < 1e-4


def test_wrong_weights_give_other_features():
    """The comparison above can fail."""
    state = dict(convert_backbone(timm_weights('dla34')).state_dict)
    name = 'level4.tree2.tree1.bn1.bias'
    state[name] = state[name] + 0.05
    model = MODELS.build(dict(type='DLA', out_indices=(2, 3, 4, 5)))
    model.load_state_dict(state, strict=True)
    assert features_error('dla34', model) > 1e-3


@pytest.mark.parametrize('network', ['dla34', 'dla60'])
def test_projections_that_timm_leaves_out(network):
    conversion = convert_backbone(timm_weights(network))
    unused = NETWORKS[network][1]
    assert {name.split('.project.')[0] for name in conversion.filled} == set(unused)
    assert len(conversion.filled) == 6 * len(unused)
    model = MODELS.build(dict(NETWORKS[network][0], out_indices=(2, 3, 4, 5)))
    model.load_state_dict(conversion.state_dict, strict=True)
    parameters = dict(model.named_parameters())
    for name in set(conversion.filled) & set(parameters):
        assert not parameters[name].requires_grad
        parameters[name].data.fill_(float('nan'))
    assert features_error(network, model) < 1e-4


def original_dla():
    """What the authors' file holds: no counters, every projection."""
    prefix = 'backbone.base.'
    shapes = {
        name[len(prefix) :]: shape
        for name, shape in original_shapes()['CenterNet-S4_DLA_8x'].items()
        if name.startswith(prefix)
    }
    return golden_state_dict(shapes.items(), [57.0])


def test_original_dla34_file(tmp_path, capsys):
    """In torch's format of its time; the values have timm's names' seeds."""
    source, target = tmp_path / 'dla34-ba72cf86.pth', tmp_path / 'ours.pth'
    torch.save(original_dla(), source, _use_new_zipfile_serialization=False)
    assert run_tool(source, target, '--config', S4_CONFIG) == 0
    said = capsys.readouterr().out
    assert 'num_batches_tracked = 0' in said
    assert 'no output depends on' not in said
    assert f'the backbone of {S4_CONFIG}' in said
    assert features_error('dla34', built('dla34', target)) < 1e-4


def test_original_dla_with_a_projection_lost_is_not_taken_for_timms():
    weights = original_dla()
    del weights['level3.project.0.weight']
    conversion = convert_backbone(weights)
    fit = check_against(fitting('dla34'), conversion.state_dict)
    assert fit.missing == ['level3.project.0.weight']


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.data())
def test_every_tensor_but_counters_and_classifier_is_needed(network, data):
    weights = light(network)
    name = data.draw(
        st.sampled_from(
            [
                name
                for name in weights
                if not name.startswith('fc.') and 'batches_tracked' not in name
            ]
        )
    )
    del weights[name]
    try:
        converted = convert_backbone(weights).state_dict
    except CheckpointError as error:  # its first convolution is gone
        assert re.match(r'base_layer\.0|conv1\.0', name), error
        return
    assert not check_against(fitting(network), converted)


@pytest.mark.parametrize(
    'network, name',
    [
        ('dla34', 'level6.tree1.conv1.weight'),
        ('dla34', 'level3.tree1.attention.weight'),
        ('res2net101d', 'layer1.0.convs.0.bias'),
        ('res2net101d', 'layer1.0.se.fc1.weight'),
    ],
)
def test_a_tensor_too_much_is_refused(network, name, tmp_path, capsys):
    source, target = tmp_path / 'a.pth', tmp_path / 'b.pth'
    torch.save(light(network) | {name: torch.ones(2)}, source)
    assert run_tool(source, target) == 2
    said = capsys.readouterr().err
    assert re.search(rf'(no place for|not in the model) \(1\):\n    .*{name}', said)
    assert not target.exists()


@pytest.mark.parametrize('statistics', [True, False])
def test_imagenet_resnet_fits_mmdet_strictly(statistics):
    weights = synthetic_backbone(R50)
    if not statistics:
        weights = {name: value for name, value in weights.items() if '.running_' not in name}
    conversion = convert_backbone(weights | {'fc1000.bias': torch.ones(1).expand(1000)})
    assert sorted(conversion.extras) == ['fc1000.bias']
    model = MODELS.build(dict(type='ResNet', depth=50, style='caffe'))
    assert check_against(model.state_dict(), conversion.state_dict)
    assert check_against(
        convert.model_state(imagenet_backbone(conversion.state_dict), ''), conversion.state_dict
    )
    model.load_state_dict(conversion.state_dict, strict=True)
    norm = model.layer4[2].bn3
    original = 'res5.2.conv3.norm.'
    assert torch.equal(norm.weight, weights[original + 'weight'])
    if statistics:
        assert torch.equal(norm.running_var, weights[original + 'running_var'])
    else:  # scale and shift, exactly
        model.eval()
        value = torch.randn(1, 2048, 1, 1)
        scale = norm.weight[None, :, None, None]
        shift = norm.bias[None, :, None, None]
        assert torch.equal(norm.running_mean, torch.zeros(2048))
        assert torch.allclose(norm(value), value * scale + shift, atol=1e-3)


def test_imagenet_resnext_is_told_by_its_groups():
    weights = synthetic_backbone('CenterNet2_X101-DCN_2x')
    state = convert_backbone(weights).state_dict
    assert check_against(convert.model_state(imagenet_backbone(state), ''), state)


def test_other_networks_are_no_backbone():
    with pytest.raises(CheckpointError, match='not the weights of a ResNet'):
        convert_backbone({'features.0.weight': torch.ones(1)})
    with pytest.raises(CheckpointError, match='--config'):
        imagenet_backbone({'stem.0.weight': torch.ones(1)})


def _by_their_authors(name):
    """The Res2Net authors' name of a tensor, by plain replacement."""
    for stage in (2, 3, 4, 5):
        name = name.replace(f'res{stage}.', f'layer{stage - 1}.')
    name = name.replace('shortcut.1.norm', 'downsample.2')
    name = name.replace('shortcut.1', 'downsample.1')
    name = re.sub(r'conv(\d)\.norm', r'bn\1', name)
    return name.replace('stem.', '')


def test_res2net_of_its_authors_is_that_of_detectron2():
    weights = synthetic_backbone(R2)
    theirs = {_by_their_authors(name): value for name, value in weights.items()}
    assert 'layer3.22.bn3.weight' in theirs and len(theirs) == len(weights)
    first, second = convert_backbone(weights), convert_backbone(theirs)
    assert same_bits(first.state_dict, second.state_dict)
    assert second.unplaced == []
    assert second.sources['stem.7.bias'] == 'bn1.bias'


def test_authors_names_are_timms():
    names = {_by_their_authors(name) for name in synthetic_backbone(R2)}
    timms = {
        name
        for name in timm_shapes()['res2net101d']
        if 'batches_tracked' not in name and not name.startswith('fc.')
    }
    assert names == timms


def test_res2net_with_deformable_convolutions(tmp_path, capsys):
    source, target = tmp_path / 'r2.pth', tmp_path / 'ours.pth'
    torch.save(light('res2net101d'), source)
    assert run_tool(source, target, '--config', R2_CONFIG) == 0
    said = capsys.readouterr().out
    # 23 and 3 blocks with three deformable convolutions each.
    assert 'layer3.*.convs.*.conv_offset.weight (69 tensors)' in said
    assert 'layer4.*.convs.*.conv_offset.bias (9 tensors)' in said


@pytest.mark.parametrize(
    'config, plain',
    [
        (R2_CONFIG, dict(type='Res2Net', depth=101, scales=4, base_width=26)),
        (X101_CONFIG, dict(type='ResNeXt', depth=101, groups=32, base_width=8)),
    ],
)
def test_only_offsets_are_new_in_deformable_networks(config, plain):
    """So mmdet's own files for the plain networks load."""
    with torch.device('meta'):
        plain = MODELS.build(plain).state_dict()
    fit = check_against(
        convert.model_state(convert.load_config(config).model.backbone, config), plain
    )
    assert not fit.unexpected and not fit.mismatched
    assert fit.missing
    assert all('.conv_offset.' in name for name in fit.missing)


_CAFFE2_NORMS = {
    'Detectron': dict(weight='s', bias='b', running_mean='rm', running_var='riv'),
    'detectron2': dict(
        weight='gamma', bias='beta', running_mean='running_mean', running_var='running_var'
    ),
}
_CAFFE2_LAYERS = dict(conv1='branch2a', conv2='branch2b', conv3='branch2c', shortcut='branch1')


def _caffe2(name, norms):
    """Caffe2's name of a ResNet's tensor in detectron2's names."""
    *layers, tensor = name.split('.')
    norm = layers[-1] == 'norm'
    layers = [_CAFFE2_LAYERS.get(layer, layer) for layer in layers if layer != 'norm']
    ending = f'bn_{norms[tensor]}' if norm else 'w'
    if layers[0] == 'stem':
        return f'res_conv1_{ending}' if norm else f'conv1_{ending}'
    return '_'.join([*layers, ending])


@pytest.mark.parametrize('project', _CAFFE2_NORMS)
def test_both_ways_of_caffe2_to_call_a_norm(project):
    """detectron2's R-50.pkl has all four tensors of a norm."""
    weights = synthetic_backbone(R50)
    norms = _CAFFE2_NORMS[project]
    renamed = {_caffe2(name, norms): value for name, value in weights.items()}
    assert f'res4_5_branch2c_bn_{norms["weight"]}' in renamed
    assert f'res_conv1_bn_{norms["running_var"]}' in renamed
    # The bias and the classifier are never loaded by the original.
    extras = ['conv1_b', 'fc1000_b', 'fc1000_w']
    renamed.update({name: torch.ones(3) for name in [*extras, 'res9_branch']})
    first, second = convert_backbone(weights), convert_backbone(renamed)
    assert same_bits(first.state_dict, second.state_dict)
    assert second.sources['conv1.weight'] == 'conv1_w'
    assert sorted(second.extras) == extras
    assert second.unplaced == ['res9_branch']
    twin = {'gamma': 's', 's': 'gamma'}[norms['weight']]
    with pytest.raises(CheckpointError, match=f'bn_{twin}.* both stand for .bn1.weight'):
        convert_backbone(renamed | {f'res_conv1_bn_{twin}': torch.ones(64)})


@pytest.mark.parametrize('lost', ['running_mean', 'running_var'])
def test_lost_statistics_are_not_made_up(lost):
    """They are only where a file has none at all."""
    weights = synthetic_backbone(R50)
    del weights[f'res3.1.conv2.norm.{lost}']
    state = convert_backbone(weights).state_dict
    fit = check_against(convert.model_state(imagenet_backbone(state), ''), state)
    assert fit.missing == [f'layer2.1.bn2.{lost}']


@pytest.mark.parametrize(
    'part', [dict(type='ResNet', depth=50), dict(type='Res2Net', depth=50, scales=4, base_width=26)]
)
def test_weights_with_mmdets_names_need_no_conversion(part):
    with torch.device('meta'):
        state = MODELS.build(part).state_dict()
    with pytest.raises(CheckpointError, match='need no conversion'):
        convert_backbone(state)


class TestSafetensors:
    """Files of the safetensors format, which timm's weights come in."""

    @pytest.fixture
    def source(self, tmp_path):
        from safetensors.torch import save_file

        path = tmp_path / 'model.safetensors'
        save_file(dict(timm_weights('dla34')), str(path))
        return path

    def test_they_are_read(self, source, tmp_path):
        content = read_checkpoint(source.rename(tmp_path / 'pytorch_model.bin'))  # by content
        weights = timm_weights('dla34')
        assert same_bits({name: content[name] for name in weights}, weights)

    @pytest.mark.parametrize('keep', [9, 5000, -1])
    def test_damaged(self, source, keep):
        source.write_bytes(source.read_bytes()[:keep])
        with pytest.raises(CheckpointError, match='damaged or cut off'):
            read_checkpoint(source)

    def test_without_the_package(self, source, monkeypatch):
        monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
        with pytest.raises(CheckpointError, match='pip install safetensors'):
            read_checkpoint(source)


def shipped_configs():
    return sorted(
        path for folder in ('centernet', 'centernet2') for path in (CONFIGS / folder).glob('*.py')
    )


@pytest.mark.parametrize('path', shipped_configs(), ids=lambda p: p.stem)
def test_pretrained_weights_of_every_config_can_be_had(path, tmp_path, monkeypatch):
    """By a name that open-mmlab or we have, or by a command of ours."""
    monkeypatch.chdir(tmp_path)
    config = convert.load_config(path)
    address = config.model.backbone.init_cfg.checkpoint
    if address.startswith('centernet2://'):
        assert released_checkpoint(address).is_file()
        return
    if address.startswith('open-mmlab://'):
        assert address.split('://')[1] in get_external_models()
        return
    with pytest.raises(PreflightError) as error:
        check_pretrained(config)
    command = str(error.value).split('converted by: ')[1].splitlines()[0]
    assert address in command


def documentation():
    return (ROOT / 'docs' / 'pretrained.md').read_text(encoding='utf-8')


def test_documented_commands_are_commands():
    tool = 'tools/model_converters/detectron2_to_mmdet.py '
    commands = [
        line.split(tool)[1].split() for line in documentation().splitlines() if tool in line
    ]
    assert len(commands) >= 4
    for arguments in commands:
        parsed = build_parser().parse_args(arguments)
        assert parsed.backbone_only
        assert parsed.config is None or (ROOT / parsed.config).is_file()


def test_documented_input_is_that_of_the_configs():
    rows = re.findall(
        r'^\| `(centernet\S+)` \| \S+ \| (\w+), std (.+?) \|', documentation(), re.MULTILINE
    )
    fed = {}
    for path in shipped_configs():
        given = convert.load_config(path).model.data_preprocessor
        fed[path.stem] = (
            'RGB' if given.bgr_to_rgb else 'BGR',
            '1' if given.std[0] == 1 else 'about 57',
        )
    assert {name: tuple(rest) for name, *rest in rows} == fed
    assert len(rows) == len(fed)
