"""The stride-4 DLA's up-sampling against explicit loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import ModulatedDeformConv2dPack

from mmdet_centernet2.models.necks import DLAUpNeck
from mmdet_centernet2.models.necks.dla_up import IDAUp, bilinear_upsample
from tests.reference import necks
from tests.reference.backbones import deform_conv
from tests.reference.random_weights import random_map, randomise

BN = dict(type='BN', requires_grad=True)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_deformable_convolution(size, channels, bias, seed) -> None:
    """What mmcv calls the operation is what the original calls it."""
    conv = ModulatedDeformConv2dPack(*channels, 3, padding=1, bias=bias)
    state = randomise(conv, seed)
    x = random_map((2, channels[0], *size), seed)
    with torch.no_grad():
        torch.testing.assert_close(conv(x), deform_conv(state, x), rtol=1e-9, atol=1e-9)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    first_factor=st.sampled_from([2, 4]),
    seed=st.integers(0, 99),
)
def test_ida_up(size, first_factor, seed) -> None:
    """Two coarser maps join one; the second is 4 or 8 times coarser."""
    height, width = size
    factors = [1, first_factor, 2 * first_factor]
    module = IDAUp(4, [4, 3, 2], factors, BN)
    state = randomise(module, seed)
    full = 2 * first_factor
    if height * width > 4:  # explicit loops are slow
        height, width = 2, 1
    maps = [
        random_map((1, c, height * full // f, width * full // f), seed + f)
        for c, f in zip([4, 3, 2], factors)
    ]
    with torch.no_grad():
        outs = module(maps)
    expected = list(maps)
    necks.ida_up(state, expected, 0, 3)
    for out, want in zip(outs, expected):
        torch.testing.assert_close(out, want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize('size', [(1, 1), (2, 1)])
def test_whole_neck(size) -> None:
    """The coarsest map has ``size``; every weight plays its part."""
    channels = [3, 4, 5, 6]
    neck = DLAUpNeck(channels, norm_cfg=BN)
    state = randomise(neck, 3)
    maps = [random_map((1, c, size[0] * f, size[1] * f), f) for c, f in zip(channels, (8, 4, 2, 1))]
    copies = [x.clone() for x in maps]
    with torch.no_grad():
        (out,) = neck(maps)
    assert out.shape == copies[0].shape
    torch.testing.assert_close(out, necks.dla_up_neck(state, copies), rtol=1e-7, atol=1e-7)
    for x, copy in zip(maps, copies):
        assert torch.equal(x, copy), 'an input was changed'


@pytest.mark.parametrize('factor', [2, 4, 8])
def test_upsampling_starts_bilinear(factor: int) -> None:
    """Inside, it is ``interpolate``; a ramp stays one."""
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing='ij')
    x = (2 * rows - 3 * columns)[None, None].repeat(1, 2, 1, 1)
    up = bilinear_upsample(2, factor)
    with torch.no_grad():
        out = up(x)
    expected = torch.nn.functional.interpolate(
        x, scale_factor=factor, mode='bilinear', align_corners=False
    )
    assert out.shape == expected.shape
    inside = (..., slice(factor, -factor), slice(factor, -factor))
    torch.testing.assert_close(out[inside], expected[inside])
    assert up.weight.requires_grad


def test_what_is_trained_and_how_it_starts() -> None:
    neck = DLAUpNeck()
    neck.init_weights()
    state = neck.state_dict()
    offsets = [n for n in state if '.conv_offset.' in n]
    assert len(offsets) == 2 * 16
    for name in offsets:
        assert not state[name].any(), name
    counts = {
        part: sum(p.numel() for p in getattr(neck, part).parameters())
        for part in ('dla_up', 'ida_up')
    }
    assert counts == dict(dla_up=3515012, ida_up=425324)
    assert state['ida_up.up_2.weight'].shape == (64, 1, 8, 8)
    assert all(p.requires_grad for p in neck.parameters())


def test_every_parameter_gets_a_gradient() -> None:
    neck = DLAUpNeck([4, 4, 4, 4], norm_cfg=BN)
    neck([torch.randn(2, 4, 2 * f, 2 * f) for f in (8, 4, 2, 1)])[0].square().sum().backward()
    assert not [n for n, p in neck.named_parameters() if p.grad is None]
