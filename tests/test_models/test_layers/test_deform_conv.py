"""Our deformable convolution, and mmcv's beside it."""

import pytest
import torch
from mmcv.cnn import build_conv_layer
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.models.backbones import ResNet
from mmdet.models.dense_heads import FCOSHead

from mmdet_centernet2.models.dense_heads import CenterNet2ProposalHead
from mmdet_centernet2.models.layers import ExactDeformConv


def build(**kwargs) -> ExactDeformConv:
    torch.manual_seed(0)
    layer = ExactDeformConv(4, 6, 3, padding=1, bias=True, **kwargs)
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.3)
    torch.nn.init.normal_(layer.conv_offset.bias)
    return layer


def images() -> torch.Tensor:
    return torch.randn(2, 4, 11, 13, generator=torch.Generator().manual_seed(1))


def results(layer, x):
    """Output and gradients of input and weights."""
    x = x.detach().requires_grad_()
    out = layer(x)
    grads = torch.autograd.grad(out.float().square().sum(), [x, *layer.parameters()])
    return [out, *grads]


@pytest.mark.parametrize(
    'name, kind', [('ExactDeformConv', ExactDeformConv), ('DCNv2', ModulatedDeformConv2dPack)]
)
def test_each_name_gives_its_layer(name, kind):
    assert type(build_conv_layer(dict(type=name), 4, 6, 3)) is kind


def test_in_a_backbone_of_mmdet():
    dcn = dict(type='ExactDeformConv', deform_groups=1)
    backbone = ResNet(
        50, dcn=dict(dcn, fallback_on_stride=False), stage_with_dcn=(False, False, False, True)
    )
    kinds = [type(m) for m in backbone.modules() if isinstance(m, ModulatedDeformConv2dPack)]
    assert kinds == [ExactDeformConv] * 3


def test_tower_of_our_head_and_of_mmdets():
    options = dict(num_classes=1, in_channels=32, dcn_on_last_conv=True)
    ours = CenterNet2ProposalHead(**options)
    kinds = [type(unit.conv) for unit in ours.reg_convs]
    assert kinds == [torch.nn.Conv2d] * 3 + [ExactDeformConv]
    stock = FCOSHead(feat_channels=32, conv_bias=True, **options)
    assert type(stock.reg_convs[-1].conv) is ModulatedDeformConv2dPack
    # the names, shapes and bias of mmdet's
    tower, theirs = (head.reg_convs.state_dict() for head in (ours, stock))
    shapes = {name: value.shape for name, value in tower.items()}
    assert shapes == {name: value.shape for name, value in theirs.items()}


@pytest.mark.parametrize('options', [dict(), dict(deform_groups=2, stride=2)])
def test_numbers_and_names_of_mmcvs(options):
    layer = build(**options)
    theirs = ModulatedDeformConv2dPack(4, 6, 3, padding=1, bias=True, **options)
    theirs.load_state_dict(layer.state_dict())
    for found, wanted in zip(results(layer, images()), results(theirs, images())):
        assert torch.equal(found, wanted)


def test_channels_last():
    """The same sums in another order."""
    wanted = results(build(), images())
    layer = build().to(memory_format=torch.channels_last)
    x = images().contiguous(memory_format=torch.channels_last)
    # The longest chain of sums ends in the gradient of the offset weights: the
    # offset itself (4 channels of 3x3), the output (the same), back over 6
    # output and 4 input channels, then over 2 images of 11x13. Each of the
    # summands adds at most one rounding of the largest value.
    summands = 2 * 4 * 9 + 6 + 4 + 2 * 11 * 13
    eps = torch.finfo(torch.float32).eps
    for one, other in zip(results(layer, x), wanted):
        torch.testing.assert_close(
            one, other, rtol=0, atol=summands * eps * other.abs().max().item()
        )


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_rounds_input_and_output_only(dtype):
    x = images().to(dtype)
    wanted = build()(x.float())
    with torch.autocast('cpu', dtype):
        found = build()(x)
    assert found.dtype == dtype
    assert torch.equal(found, wanted.to(dtype))
