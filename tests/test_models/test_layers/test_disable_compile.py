"""Methods that are left out of compiled graphs."""

import subprocess
import sys

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from mmdet_centernet2.models.layers import disable_compile

IMPORTS = """
import sys
import mmdet.datasets, mmdet.engine, mmdet.evaluation, mmdet.models
before = 'torch._dynamo' in sys.modules
import mmdet_centernet2
assert ('torch._dynamo' in sys.modules) == before
"""


def helper(x):
    return x * (3 if torch.compiler.is_compiling() else 2)


class Twice(torch.nn.Module):
    def forward(self, x):
        return self.double(x + 1) - 1

    @disable_compile
    def double(self, x: torch.Tensor) -> torch.Tensor:
        """Of all elements."""
        return helper(x)


def test_only_the_rest_is_compiled():
    """Before and after the method, once for all calls and sizes."""
    torch._dynamo.reset()
    module, graphs = Twice(), CompileCounterWithBackend('eager')
    compiled = torch.compile(module, backend=graphs, dynamic=True)
    for size in range(2, 30):
        assert torch.equal(compiled(torch.ones(size)), torch.full((size,), 3.0))
    assert graphs.frame_count <= 4
    assert sum(len(list(graph.graph.nodes)) for graph in graphs.graphs) < 30
    assert torch.equal(module(torch.ones(2)), torch.full((2,), 3.0))


def test_name_and_docstring_stay():
    assert Twice.double.__name__ == 'double'
    assert Twice.double.__doc__ == 'Of all elements.'


@pytest.mark.slow
def test_the_compiler_is_not_imported_with_the_package():
    subprocess.run([sys.executable, '-c', IMPORTS], check=True)
