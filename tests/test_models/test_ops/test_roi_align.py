"""RoIAlign as a weighted sum of rows, against mmcv's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor

from mmdet_centernet2.models.ops import prepare_features, roi_align
from mmdet_centernet2.models.ops.roi_align import roi_align_cpu
from tests.reference.cases import SETTINGS

#: Empty, tiny, beyond the border, all outside, long and thin; in pixels.
ODD = (
    (5.0, 5, 5, 20),
    (0.0, 0, 0.01, 0.01),
    (-300.0, 10, -60, 60),
    (-30.0, -40, 300, 200),
    (0.0, 60, 150, 62),
    (149.0, 99, 151, 101),
    (400.0, 400, 500, 500),
)


def maps(channels: int = 5, batch: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, 13, 19, generator=generator)


def rois_of(boxes, image: int = 1) -> Tensor:
    return torch.tensor([(float(image), *box) for box in boxes])


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('bins', [7, (3, 14)])
@pytest.mark.parametrize('ratio', [0, 2])
@torch.no_grad()
def test_odd_boxes(memory_format, bins, ratio):
    layer = RoIAlign(bins, 1 / 8, ratio)
    feats = maps().contiguous(memory_format=memory_format)
    rois = torch.cat([rois_of(ODD, 0), rois_of(ODD, 1)])
    found = roi_align_cpu(feats, rois, layer.output_size, 1 / 8, ratio)
    assert_close(found, layer(feats.contiguous(), rois))


@SETTINGS
@given(
    st.lists(
        st.tuples(*[st.integers(-400, 1500)] * 2, *[st.integers(0, 1500)] * 2),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 10**6),
    st.sampled_from([4, 8, 16]),
)
@torch.no_grad()
def test_any_boxes(sizes, seed, stride):
    """Corners in tenths of a pixel."""
    rois = rois_of([(x / 10, y / 10, (x + w) / 10, (y + h) / 10) for x, y, w, h in sizes])
    layer, feats = RoIAlign(7, 1 / stride, 0), maps(seed=seed)
    assert_close(roi_align_cpu(feats, rois, (7, 7), 1 / stride), layer(feats, rois))


@torch.no_grad()
def test_absurdly_large_boxes_go_the_slow_way(monkeypatch):
    monkeypatch.setitem(roi_align.__globals__, 'MAX_TAPS', 100)
    layer, rois = RoIAlign(7, 1 / 8, 0), rois_of([(0, 0, 140, 90)])
    assert roi_align_cpu(maps(), rois, (7, 7), 1 / 8) is None
    assert_close(roi_align(layer, maps(), rois), layer(maps(), rois))
    thin = rois_of([(0, 0, 1e6, 1)])
    assert roi_align_cpu(maps(), thin, (7, 7), 1 / 8) is None


def test_gradients_are_those_of_mmcv():
    layer, rois = RoIAlign(7, 1 / 8, 0), rois_of(ODD)
    grads = []
    for pool in (layer, lambda *args: roi_align(layer, *args)):
        feats = maps().requires_grad_()
        (pool(feats, rois) ** 2).sum().backward()
        grads.append(feats.grad)
    assert grads[0].abs().sum() > 0
    assert_close(*grads)


@torch.no_grad()
def test_half_precision_maps_have_exact_coordinates():
    """Error of BF16 alone, not of positions rounded to it."""
    rois = rois_of([(1203.3, 701.7, 1340.2, 798.4)], 0)
    ramp = torch.arange(168.0).expand(1, 1, 100, 168) / 168
    wanted = RoIAlign(7, 1 / 8, 0)(ramp, rois)
    found = roi_align(RoIAlign(7, 1 / 8, 0), ramp.bfloat16(), rois)
    torch.testing.assert_close(found.float(), wanted, rtol=1e-2, atol=0)


@torch.no_grad()
def test_channels_last_maps_are_not_copied():
    (ready,) = prepare_features([maps()])
    assert prepare_features([ready])[0].data_ptr() == ready.data_ptr()
    sizes = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and not func.is_view:
                sizes.append((str(func), out.numel()))
            return out

    big = ready.repeat(50, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    with Sizes():
        roi_align_cpu(big, rois_of([(10, 10, 40, 40)]), (7, 7), 1 / 8)
    assert sizes and max(size for _, size in sizes) < big.numel() // 4


def extractor(channels: int = 5):
    return MODELS.build(
        dict(
            type='CanonicalRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=channels,
            featmap_strides=[8, 16, 32],
        )
    )


@pytest.mark.parametrize('count', [0, 1, 40])
def test_extractor_against_mmdets(count):
    generator = torch.Generator().manual_seed(count)
    feats = [torch.randn(2, 5, 64 // s, 96 // s, generator=generator) for s in (1, 2, 4)]
    corners = torch.rand(count, 2, generator=generator) * 400
    sides = 10 ** (1 + torch.rand(count, 2, generator=generator) * 2)
    images = torch.randint(0, 2, (count, 1), generator=generator)
    rois = torch.cat([images, corners, corners + sides], 1)
    pool = extractor()
    if count > 1:  # all levels
        assert len(pool.map_roi_levels(rois, 3).unique()) == 3
    wanted = SingleRoIExtractor.forward(pool, feats, rois)
    assert_close(pool(feats, rois), wanted)
    with torch.no_grad():
        found = pool(feats, rois)
        ready = pool(prepare_features(feats), rois)
    assert found.shape == wanted.shape == (count, 5, 7, 7)
    assert_close(found, wanted)
    assert_close(ready, wanted)
