"""Whether a CPU computes in bfloat16, and what is said if not."""

import platform
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmdet_centernet2.engine.optimizers import bf16

CPUINFO = Path('/proc/cpuinfo')
LIMITS = ('ONEDNN_MAX_CPU_ISA', 'DNNL_MAX_CPU_ISA')


@pytest.fixture(autouse=True)
def _no_limit(monkeypatch):
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)


def pretend(monkeypatch, onednn, flag, machine='x86_64'):
    """A machine that answers like this."""
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', lambda: onednn)
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: flag, raising=False)
    monkeypatch.setattr(platform, 'machine', lambda: machine)


@pytest.mark.skipif(
    platform.machine() != 'x86_64'
    or not CPUINFO.is_file()
    or not hasattr(torch.cpu, '_is_avx512_bf16_supported'),
    reason='the flags of this CPU are not known',
)
def test_this_machine():
    flags = CPUINFO.read_text().split('flags')[1].split('\n')[0].split()
    assert bf16.cpu_has_bf16() == ('avx512_bf16' in flags)


@pytest.mark.parametrize(
    'onednn, flag, machine, expected',
    [
        (True, True, 'x86_64', True),
        (True, False, 'AMD64', False),  # AVX512 of the first kind
        (False, False, 'x86_64', False),  # AVX2
        (False, True, 'x86_64', False),  # oneDNN is limited to AVX2
        (True, False, 'aarch64', True),
        (False, False, 'arm64', False),
    ],
)
def test_flags(monkeypatch, onednn, flag, machine, expected):
    pretend(monkeypatch, onednn, flag, machine)
    assert bf16.cpu_has_bf16() == expected


@pytest.mark.parametrize('variable', LIMITS)
@pytest.mark.parametrize(
    'value, expected',
    [
        ('avx512_core', False),
        ('AVX512_CORE_VNNI', False),
        ('AVX512_CORE_BF16', True),
        ('DEFAULT', True),
    ],
)
def test_limits_of_onednn(monkeypatch, variable, value, expected):
    pretend(monkeypatch, True, True)
    monkeypatch.setenv(variable, value)
    assert bf16.cpu_has_bf16() == expected


def test_torch_without_onednn(monkeypatch):
    pretend(monkeypatch, True, True)
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    assert not bf16.cpu_has_bf16()


@pytest.mark.parametrize('has_bf16', [True, False])
def test_training_says_that_it_will_be_slow(monkeypatch, has_bf16):
    said = []
    monkeypatch.setattr(bf16, 'print_log', lambda text, *_: said.append(text))
    monkeypatch.setattr(bf16, 'cpu_has_bf16', lambda: has_bf16)
    build_optim_wrapper(
        nn.Linear(2, 2), dict(type='BF16OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    )
    assert len(said) == (not has_bf16)
    assert has_bf16 or 'slower than with OptimWrapper' in said[0]
