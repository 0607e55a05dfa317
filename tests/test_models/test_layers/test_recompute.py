"""Activation checkpointing: same numbers, less memory kept."""

import copy

import pytest
import torch
from torch import nn

from mmdet_centernet2.models.backbones import DLA
from mmdet_centernet2.models.layers import recompute
from mmdet_centernet2.models.necks import BiFPN, FCOSBiFPN


def step(model, *inputs):
    """Outputs, gradients and running statistics after one step."""
    outputs = model(*inputs)
    sum(out.square().mean() for out in outputs).backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return dict(enumerate(outputs)), grads, dict(model.named_buffers())


def assert_same_step(model, *inputs):
    other = copy.deepcopy(model)
    other.with_cp = True
    for found, wanted in zip(step(other, *inputs), step(model, *inputs)):
        assert found.keys() == wanted.keys() and wanted
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value)


def test_dla_and_its_running_statistics():
    torch.manual_seed(0)
    assert_same_step(DLA(34), torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize('neck', [BiFPN, FCOSBiFPN])
def test_bifpn(neck):
    torch.manual_seed(0)
    model = neck([8, 12, 16], 8, num_cells=2, norm_cfg=dict(type='BN', requires_grad=True))
    assert_same_step(
        model, [torch.randn(2, c, 32 // s, 32 // s) for c, s in ((8, 1), (12, 2), (16, 4))]
    )


def kept_bytes(model, inputs) -> int:
    """Memory of what autograd keeps for the backward pass."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        model(inputs)
    return sum(kept.values())


@pytest.mark.parametrize(
    'build, inputs',
    [
        (lambda cp: DLA(34, with_cp=cp), torch.randn(1, 3, 64, 64)),
        (lambda cp: BiFPN([32], 32, with_cp=cp), [torch.randn(1, 32, 64, 64)]),
    ],
)
def test_less_is_kept(build, inputs):
    plain, checkpointed = (kept_bytes(build(with_cp), inputs) for with_cp in (False, True))
    assert checkpointed < plain / 3


def test_runs_twice_only_where_a_gradient_is_wanted():
    calls = []
    layer = nn.Linear(2, 2)
    layer.register_forward_pre_hook(lambda *_: calls.append(1))
    x = torch.randn(3, 2)
    with torch.no_grad():
        recompute(layer, x)
    assert len(calls) == 1
    recompute(layer, x).sum().backward()
    assert len(calls) == 3
