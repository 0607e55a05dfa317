"""The deformable convolution that replaces mmcv's."""
import pytest
import torch
from mmcv.cnn import build_conv_layer
from mmcv.ops import ModulatedDeformConv2dPack

from mmdet_centernet2.models.layers import ExactDeformConv


def build(**kwargs) -> ExactDeformConv:
    torch.manual_seed(0)
    layer = ExactDeformConv(4, 6, 3, padding=1, bias=True, **kwargs)
    torch.nn.init.normal_(layer.conv_offset.weight, std=.3)
    torch.nn.init.normal_(layer.conv_offset.bias)
    return layer


def images() -> torch.Tensor:
    return torch.randn(2, 4, 11, 13, generator=torch.Generator().manual_seed(1))


def results(layer, x):
    """Output and gradients of input and weights."""
    x = x.detach().requires_grad_()
    out = layer(x)
    grads = torch.autograd.grad(
        out.float().square().sum(), [x, *layer.parameters()])
    return [out, *grads]


def test_config_name_gives_this_layer():
    layer = build_conv_layer(dict(type='DCNv2'), 4, 6, 3)
    assert type(layer) is ExactDeformConv


@pytest.mark.parametrize('options', [dict(), dict(deform_groups=2, stride=2)])
def test_numbers_and_names_of_mmcvs(options):
    layer = build(**options)
    theirs = ModulatedDeformConv2dPack(4, 6, 3, padding=1, bias=True,
                                       **options)
    theirs.load_state_dict(layer.state_dict())
    for found, wanted in zip(
            results(layer, images()), results(theirs, images())):
        assert torch.equal(found, wanted)


def test_channels_last():
    wanted = results(build(), images())
    layer = build().to(memory_format=torch.channels_last)
    x = images().contiguous(memory_format=torch.channels_last)
    for one, other in zip(results(layer, x), wanted):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_rounds_input_and_output_only(dtype):
    x = images().to(dtype)
    wanted = build()(x.float())
    with torch.autocast('cpu', dtype):
        found = build()(x)
    assert found.dtype == dtype
    assert torch.equal(found, wanted.to(dtype))
