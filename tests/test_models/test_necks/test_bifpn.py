"""Both BiFPNs against slow references, and what one may rely on."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from torch import Tensor

from mmdet_centernet2.models.necks import BiFPN, FCOSBiFPN
from mmdet_centernet2.models.necks.bifpn import bifpn_graph
from tests.reference.necks import FIVE_LEVELS, THREE_LEVELS, effdet_bifpn, fcos_bifpn, node_table
from tests.reference.random_weights import random_map, randomise

REFERENCES = {BiFPN: effdet_bifpn, FCOSBiFPN: fcos_bifpn}
GN2 = dict(type='GN', num_groups=2, requires_grad=True)
both = pytest.mark.parametrize('neck_type', [BiFPN, FCOSBiFPN])


def halved(size: int, up: bool) -> int:
    """Half the size, at least one, rounded up or down."""
    return max((size + up) // 2, 1)


@st.composite
def pyramids(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int]], int]:
    """Channels and sizes of inputs, and a number of levels.

    Each size is half the finer one's, rounded either way: backbones differ.
    """
    count = draw(st.integers(1, 5))
    channels = draw(st.lists(st.integers(3, 8), min_size=count, max_size=count))
    sizes = [(draw(st.integers(1, 12)), draw(st.integers(1, 12)))]
    for _ in range(count - 1):
        height, width = sizes[-1]
        sizes.append((halved(height, draw(st.booleans())), halved(width, draw(st.booleans()))))
    return channels, sizes, draw(st.integers(max(count, 3), 7))


def make_inputs(channels: list[int], sizes: list[tuple[int, int]], seed: int = 0) -> list[Tensor]:
    return [random_map((2, c, *size), seed + i) for i, (c, size) in enumerate(zip(channels, sizes))]


def test_graphs_are_the_listed_ones() -> None:
    assert bifpn_graph(3) == THREE_LEVELS == node_table(3)
    assert bifpn_graph(5) == FIVE_LEVELS == node_table(5)
    for levels in (4, 6, 7):
        assert bifpn_graph(levels) == node_table(levels)


@both
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    pyramid=pyramids(),
    out_channels=st.sampled_from([4, 6, 8]),
    cells=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_against_the_reference(neck_type, pyramid, out_channels, cells, seed) -> None:
    channels, sizes, levels = pyramid
    neck = neck_type(channels, out_channels, levels, cells, GN2)
    state = randomise(neck, seed)
    inputs = make_inputs(channels, sizes, seed)
    with torch.no_grad():
        outs = neck(inputs)
    expected = REFERENCES[neck_type](state, inputs, levels, cells, 2)
    while len(sizes) < levels:
        sizes.append((halved(sizes[-1][0], True), halved(sizes[-1][1], True)))
    assert [tuple(x.shape) for x in outs] == [(2, out_channels, *size) for size in sizes]
    for out, want in zip(outs, expected):
        torch.testing.assert_close(out, want, rtol=1e-7, atol=1e-7)


def test_the_flavours_differ_in_their_pooling() -> None:
    """The value next to a 2x2 window counts for a 3x3 one only."""
    x = torch.zeros(1, 4, 8, 8)
    x[:, :, 3, 3] = 1.0
    kept = dict(in_channels=[4], out_channels=4, num_outs=3, num_cells=1)
    pooled = {}
    for neck_type in (BiFPN, FCOSBiFPN):
        neck = neck_type(**kept, norm_cfg=GN2)
        if neck_type is FCOSBiFPN:
            neck.reduction = torch.nn.Identity()
        cells = neck.cells if neck_type is FCOSBiFPN else neck.cell
        cells[0].register_forward_pre_hook(
            lambda _, args, key=neck_type: pooled.update({key: args[0][1]})
        )
        neck([x])
    assert pooled[BiFPN][0, 0].nonzero().tolist() == [[1, 1]]
    assert pooled[FCOSBiFPN][0, 0].nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


def laterals(neck: torch.nn.Module) -> list[str]:
    """Names of the weights of projections inside the first cell."""
    names = dict(neck.named_parameters())
    return sorted(
        n
        for n in names
        if n.endswith('weight')
        and (
            ('cell.0' in n and '.combine.resample.' in n and '.conv.conv.' in n)
            or ('cells.0.lateral' in n and '.norm.' not in n)
        )
    )


def test_effdet_projects_for_every_node() -> None:
    neck = BiFPN([5, 6, 7], 4, 5, 2, GN2)
    assert laterals(neck) == [
        f'cell.0.fnode.{node}.combine.resample.{i}.conv.conv.weight'
        for node, i in [(1, 2), (2, 1), (3, 0), (4, 1), (5, 2)]
    ]
    assert 'cell.0.fnode.1.combine.resample.2.conv.conv.bias' not in (neck.state_dict())
    assert neck.state_dict()['resample.3.conv.conv.weight'].shape == (4, 7, 1, 1)


@pytest.mark.parametrize(
    'levels, expected',
    [
        (3, ['lateral_0_f0', 'lateral_1_f1', 'lateral_2_f1', 'lateral_2_f2']),
        (5, ['lateral_0_f0', 'lateral_1_f1', 'lateral_2_f2']),
    ],
)
def test_fcos_shares_projections_of_a_level(levels: int, expected: list[str]) -> None:
    neck = FCOSBiFPN([5, 6, 7], 4, levels, 2, GN2)
    assert laterals(neck) == [f'cells.0.{name}.weight' for name in expected]
    for name in expected:
        assert neck.state_dict()[f'cells.0.{name}.bias'].shape == (4,)


@both
def test_equal_channels_are_not_projected(neck_type) -> None:
    neck = neck_type([5, 4, 4], 4, 3, 1, GN2)
    names = laterals(neck)
    assert len(names) == 1
    assert 'resample.0' in names[0] or 'lateral_0_f0' in names[0]
    assert not laterals(neck_type([4, 4, 4], 4, 4, 1, GN2))


@both
@pytest.mark.parametrize('levels', [3, 5])
def test_every_parameter_gets_a_gradient(neck_type, levels: int) -> None:
    neck = neck_type([5, 6, 7], 8, levels, 2, GN2)
    outs = neck([x.float() for x in make_inputs([5, 6, 7], [(12, 10), (6, 5), (3, 3)])])
    sum((x * torch.randn_like(x)).sum() for x in outs).backward()
    without = [n for n, p in neck.named_parameters() if p.grad is None]
    assert not without


@both
def test_negative_edge_weights_do_not_subtract(neck_type) -> None:
    """Two nodes with weights (1, -5) and (1, 0) give the same."""
    outs = []
    for negative in (-5.0, 0.0):
        torch.manual_seed(0)
        neck = neck_type([4, 4, 4], 4, 3, 1, GN2)
        for name, parameter in neck.named_parameters():
            if 'edge_weights' in name or '.weights_f' in name:
                parameter.data[1] = negative
        outs.append(neck([torch.ones(1, 4, n, n) for n in (4, 2, 1)]))
    for left, right in zip(*outs):
        torch.testing.assert_close(left, right)


@both
@pytest.mark.parametrize(
    'change',
    [dict(num_outs=2), dict(in_channels=[4], num_outs=2), dict(num_cells=0), dict(in_channels=[])],
)
def test_bad_arguments(neck_type, change: dict) -> None:
    options = dict(in_channels=[4, 4, 4], out_channels=4, num_outs=5, num_cells=3)
    shown = [f'{k}={v}' for k, v in {**options, **change}.items() if k != 'out_channels']
    with pytest.raises(ValueError, match=re.escape(f'got {", ".join(shown)}')):
        neck_type(**{**options, **change})


@both
def test_wrong_number_of_inputs(neck_type) -> None:
    neck = neck_type([4, 4, 4], 4, 5, 1, GN2)
    with pytest.raises(ValueError, match='built for 3 inputs, got 2'):
        neck([torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 2, 2)])


@both
def test_defaults_are_the_originals(neck_type) -> None:
    """32 groups; PyTorch's own initialisation, not fewer than 5 levels."""
    neck = MODELS.build(
        dict(type=neck_type.__name__, in_channels=[128, 256, 512], out_channels=160)
    )
    norms = [m for m in neck.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert norms and all(m.num_groups == 32 for m in norms)
    before = {k: v.clone() for k, v in neck.state_dict().items()}
    neck.init_weights()
    for name, value in neck.state_dict().items():
        assert torch.equal(value, before[name]), name
    weights = [v for n, v in before.items() if 'edge_weights' in n or '.weights_f' in n]
    assert len(weights) == 3 * 8
    assert all((w == 1).all() for w in weights)
