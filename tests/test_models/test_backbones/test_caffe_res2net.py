"""Res2Net with the original's place for the stride."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.models.backbones import Res2Net

from mmdet_centernet2.models.backbones import CaffeRes2Net
from tests.reference.backbones import res2net, res2net_block
from tests.reference.random_weights import random_map, randomise

BLOCKS = (3, 4, 6, 3)
DCN = dict(
    dcn=dict(type='ExactDeformConv', deform_groups=1, fallback_on_stride=False),
    stage_with_dcn=(False, False, True, True),
)


def small(**options: Any) -> CaffeRes2Net:
    """Fifty layers, 8 base channels in 4 splits of 3."""
    return CaffeRes2Net(depth=50, base_channels=8, stem_channels=8, base_width=3, **options)


def stage_inputs(stage: int) -> int:
    """Channels that enter a stage of ``small``, counted from 1."""
    return 8 if stage == 1 else 8 * 2**stage


@pytest.mark.parametrize('options', [dict(), DCN], ids=['plain', 'dcn'])
@pytest.mark.parametrize('stage, size', [(1, (5, 4)), (2, (6, 4)), (3, (5, 7)), (4, (1, 3))])
def test_blocks(options: dict, stage: int, size: tuple) -> None:
    """A stage's first block, with its stride, and the next one."""
    layer = getattr(small(**options), f'layer{stage}')
    for block, stride in ((0, 1 if stage == 1 else 2), (1, 1)):
        state = randomise(layer[block], stage)
        channels = stage_inputs(stage) if block == 0 else 32 * 2 ** (stage - 1)
        x = random_map((1, channels, *size), block)
        with torch.no_grad():
            out = layer[block](x)
        expected = res2net_block(state, x, stride, block == 0)
        torch.testing.assert_close(out, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize('options, size', [(dict(), (32, 64)), (dict(), (45, 38)), (DCN, (32, 40))])
def test_whole_network(options: dict, size: tuple) -> None:
    net = small(out_indices=(0, 1, 2, 3), **options)
    state = randomise(net, 0)
    image = random_map((1, 3, *size), 0)
    with torch.no_grad():
        outs = net(image)
    for out, want in zip(outs, res2net(state, image, BLOCKS)):
        torch.testing.assert_close(out, want, rtol=1e-6, atol=1e-6)


def test_the_stride_is_on_the_first_1x1() -> None:
    """Unlike mmdet's class, whose last split is pooled."""
    for stage in (2, 3, 4):
        first = getattr(small(), f'layer{stage}')[0]
        assert first.conv1.stride == (2, 2)
        assert all(conv.stride == (1, 1) for conv in first.convs)
        assert not hasattr(first, 'pool')
    stock = Res2Net(depth=50, style='caffe').layer2[0]
    assert stock.conv1.stride == (1, 1) and hasattr(stock, 'pool')


def test_tensors_of_the_original_101_layers() -> None:
    net = CaffeRes2Net(depth=101, scales=4, base_width=26, **DCN)
    state = net.state_dict()
    widths = [26, 52, 104, 208]
    for stage, (count, width) in enumerate(zip((3, 4, 23, 3), widths), 1):
        layer = getattr(net, f'layer{stage}')
        assert len(layer) == count
        assert layer[0].conv1.weight.shape[0] == 4 * width
        assert layer[-1].conv3.weight.shape[0] == 256 * 2 ** (stage - 1)
        for block in layer:
            assert [conv.weight.shape for conv in block.convs] == [(width, width, 3, 3)] * 3
            assert all(
                isinstance(conv, ModulatedDeformConv2dPack) == (stage > 2) for conv in block.convs
            )
    assert state['layer3.0.convs.0.conv_offset.weight'].shape == (27, 104, 3, 3)
    assert [state[f'stem.{i}.weight'].shape[:2] for i in (0, 3, 6)] == [(32, 3), (32, 32), (64, 32)]


def test_offsets_start_at_zero_and_have_no_bias() -> None:
    """A bias that exists but never moves is none."""
    net = small(**DCN)
    net.init_weights()
    net.train()
    packs = [(n, m) for n, m in net.named_modules() if isinstance(m, ModulatedDeformConv2dPack)]
    assert len(packs) == 3 * (6 + 3)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    sum(x.square().mean() for x in net(torch.randn(2, 3, 64, 64))).backward()
    for name, pack in packs:
        assert not pack.conv_offset.weight.any(), name
        assert pack.conv_offset.weight.grad.any(), name
    optimizer.step()
    for name, pack in packs:
        assert not pack.conv_offset.bias.any(), name
        assert pack.conv_offset.weight.any(), name


def test_loaded_weights_are_kept(tmp_path: Path) -> None:
    """Neither by a checkpoint nor by a second call are offsets reset."""
    state = randomise(small(**DCN), 5)
    torch.save(state, tmp_path / 'weights.pth')
    loaded = small(
        **DCN, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'))
    )
    loaded.init_weights()
    fresh = small(**DCN)
    fresh.init_weights()
    fresh.load_state_dict(state)
    fresh.init_weights()
    for net in (loaded, fresh):
        for name, value in net.state_dict().items():
            torch.testing.assert_close(value, state[name].to(value))


def test_kernels_of_deformable_convolutions_are_initialised() -> None:
    """Like all others: normal, variance 2 over kernel size times outputs."""
    net = small(**DCN)
    net.init_weights()
    kernels = [conv.weight for block in net.layer4 for conv in block.convs]
    spread = torch.cat([w.flatten() for w in kernels]).std().item()
    assert spread == pytest.approx((2 / (9 * 24)) ** 0.5, rel=0.02)


def test_frozen_stages_and_norms() -> None:
    """Stem and first stage fixed, all norms in evaluation mode."""
    net = small(frozen_stages=1, norm_cfg=dict(type='BN', requires_grad=False), norm_eval=True)
    net.train()  # returns nothing in mmdet
    net(torch.randn(1, 3, 64, 64))[-1].sum().backward()
    for name, parameter in net.named_parameters():
        fixed = name.startswith(('stem', 'layer1')) or '.bn' in name or '.downsample.2' in name
        assert parameter.requires_grad is not fixed, name
    assert not any(m.training for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d))
