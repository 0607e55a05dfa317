"""DLA against its slow reference, and what one may rely on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from torch import nn

from mmdet_centernet2.models.backbones import DLA
from mmdet_centernet2.models.backbones.dla import DLABasicBlock, DLABottleneck, DLATree
from tests.reference.backbones import dla, dla_tree
from tests.reference.random_weights import random_map, randomise

BN = dict(type='BN', requires_grad=True)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    depth=st.sampled_from([1, 2, 1, 2, 3]),
    block=st.sampled_from([DLABasicBlock, DLABottleneck]),
    channels=st.tuples(st.integers(3, 6), st.sampled_from([4, 6])),
    stride=st.sampled_from([1, 2]),
    level_root=st.booleans(),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 99),
)
def test_tree(depth, block, channels, stride, level_root, size, seed) -> None:
    tree = DLATree(depth, block, *channels, stride, level_root, BN)
    state = randomise(tree, seed)
    x = random_map((2, channels[0], *size), seed)
    with torch.no_grad():
        out = tree(x)
    expected = dla_tree(state, x, depth, stride, level_root)
    assert out.shape == (2, channels[1], *(-(-n // stride) for n in size))
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    'depth, trees, size',
    [(34, (1, 2, 2, 1), (32, 64)), (34, (1, 2, 2, 1), (37, 50)), (60, (1, 2, 3, 1), (32, 32))],
)
def test_whole_network(depth, trees, size) -> None:
    net = DLA(depth, out_indices=range(6))
    state = randomise(net, 1)
    image = random_map((1, 3, *size), 1)
    with torch.no_grad():
        outs = net(image)
    expected = dla(state, image, trees)
    assert len(outs) == len(expected) == 6
    assert net.out_channels == [x.size(1) for x in expected]
    for out, want in zip(outs, expected):
        torch.testing.assert_close(out, want, rtol=1e-7, atol=1e-7)


def test_dla34_size_is_the_originals() -> None:
    net = DLA()
    assert sum(p.numel() for p in net.parameters()) == 15270832
    roots = {
        name: tuple(net.state_dict()[f'{name}.root.conv.weight'].shape[:2])
        for name in (
            'level2',
            'level3.tree1',
            'level3.tree2',
            'level4.tree1',
            'level4.tree2',
            'level5',
        )
    }
    assert roots == {
        'level2': (64, 128),
        'level3.tree1': (128, 256),
        'level3.tree2': (128, 448),
        'level4.tree1': (256, 512),
        'level4.tree2': (256, 896),
        'level5': (512, 1280),
    }


def test_out_indices_choose_levels() -> None:
    net = DLA(out_indices=(2, 4)).eval()
    everything = DLA(out_indices=range(6)).eval()
    everything.load_state_dict(net.state_dict())
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        chosen, levels = net(image), everything(image)
    assert len(chosen) == 2 and net.out_channels == [64, 256]
    assert torch.equal(chosen[0], levels[2])
    assert torch.equal(chosen[1], levels[4])


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(depth=46), r'depth must be one of \(34, 60\), got 46'),
        (dict(out_indices=(3, 6)), 'out_indices'),
        (dict(out_indices=(-1,)), 'out_indices'),
        (dict(out_indices=()), 'out_indices'),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DLA(**options)


@pytest.mark.parametrize('norm_eval', [False, True])
def test_norm_eval(norm_eval: bool) -> None:
    net = DLA(norm_eval=norm_eval)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    net.train()
    assert net.training and net.level3.training
    assert all(m.training is not norm_eval for m in norms)
    before = norms[0].running_mean.clone()
    net(torch.randn(2, 3, 32, 32))
    assert torch.equal(before, norms[0].running_mean) is norm_eval
    net.eval()
    assert not any(m.training for m in norms)


@pytest.mark.parametrize(
    'depth, dead',
    [
        (34, {'level3.project', 'level4.project'}),
        (60, {'level3.project', 'level4.project', 'level4.tree1.project'}),
    ],
)
def test_gradients(depth: int, dead: set) -> None:
    """All that trains gets a gradient, so DDP need not search."""
    net = DLA(depth).train()
    outs = net(torch.randn(2, 3, 64, 64))
    sum((x * torch.randn_like(x)).sum() for x in outs).backward()
    parameters = dict(net.named_parameters())
    frozen = {n for n, p in parameters.items() if not p.requires_grad}
    assert {n.rsplit('.', 2)[0] for n in frozen} == dead
    for name, parameter in parameters.items():
        assert (parameter.grad is None) == (name in frozen), name


def test_initialisation() -> None:
    """Convolutions: normal, variance 2 over kernel size times outputs."""
    net = DLA()
    net.init_weights()
    for name in ('level5.tree2.conv2', 'level4.tree2.root.conv'):
        weight = net.get_submodule(name).weight
        expected = (2 / (weight[0, 0].numel() * weight.size(0))) ** 0.5
        assert weight.std().item() == pytest.approx(expected, rel=0.02)


def test_norm_type_is_configurable() -> None:
    net = MODELS.build(dict(type='DLA', norm_cfg=dict(type='SyncBN', requires_grad=True)))
    norms = [m for n, m in net.named_modules() if n.endswith('bn1')]
    assert norms and all(isinstance(m, nn.SyncBatchNorm) for m in norms)
    assert {(m.momentum, m.eps) for m in norms} == {(0.1, 1e-5)}
