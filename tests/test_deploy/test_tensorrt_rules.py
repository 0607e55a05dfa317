"""Every rule of TensorRT on a graph that breaks it, and on one that does not."""

import re

import numpy as np
import pytest
from onnx import numpy_helper, parser

from tests.test_deploy.tensorrt_rules import check_tensorrt

pytestmark = pytest.mark.export

#: A detector's skeleton: features, the best cells, their boxes.
CLEAN = """
g (float[1,3,64,64] image, float[1,4,1024] boxes)
    => (float[1,100] scores, float[1,4,100] kept)
  <float[1,3,3,3] weight, int64[1] k = {100}, int64[1] axis = {1},
   int64[2] shape = {1, -1}>
{
  features = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1],
                  strides = [2, 2]>(image, weight)
  heat = Sigmoid(features)
  flat = Reshape(heat, shape)
  scores, cells = TopK<axis = 1>(flat, k)
  wide = Unsqueeze(cells, axis)
  size = Constant<value = int64[3] {1, 4, 100}>()
  many = Expand(wide, size)
  kept = GatherElements<axis = 2>(boxes, many)
}
"""
DEFORM = (
    'y = DeformConv<kernel_shape = [3, 3], pads = [{0}, 1, 1, 1]>(x, weight, offset)',
    'float[1,1,5,5] x, float[1,18,{1},5] offset',
    'float[1,1,{1},5] y',
    'float[1,1,3,3] weight',
)


def rules_broken(text: str, release: str = '10.1', opset: int = 19) -> set:
    """Check a graph in ONNX's textual format; weights without values are 1."""
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}, "trt" : 1]>' + text)
    for value in model.graph.value_info:  # declared between < and >
        if re.search(rf'\b{value.name}\b[,>]', text.split('{')[0]):
            shape = [s.dim_value for s in value.type.tensor_type.shape.dim]
            model.graph.initializer.append(
                numpy_helper.from_array(np.ones(shape, np.float32), value.name)
            )
    return {rule for rule, _ in check_tensorrt(model, release)}


def body(line: str, inputs: str = 'float[2,8] x', outputs: str = 'y', constants: str = '') -> str:
    """A graph of a few lines."""
    return f'g ({inputs}) => ({outputs}) <{constants}> {{ {line} }}'


TOP = 'float[2,M] v, int64[2,M] i'


BROKEN = [
    ('topk-constant', 'n = Shape<start = 1, end = 2>(x) k = Min(n, ten) v, i = TopK(x, k)',
     'float[2,N] x', TOP, 'int64[1] ten = {10}'),
    ('topk-limit', 'v, i = TopK(x, k)', 'float[2,9000] x', TOP, 'int64[1] k = {3841}'),
    ('data-dependent-shape', 'where = NonZero(x) y = Cast<to = 1>(where)', 'float[8] x',
     'float[1,M] y'),
    ('unsupported-operator', 'y = Unique(x)', 'float[8] x', 'float[M] y'),
    ('unsupported-operator', 'y = trt.EfficientNMS(x)', 'float[2,8] x', 'float[2,8] y'),
    ('shape-from-data',
     'top = ReduceMax<keepdims = 0>(x) n = Cast<to = 7>(top) y = Range(zero, n, one)',
     'float[2,8] x', 'int64[M] y', 'int64 zero = {0}, int64 one = {1}'),
    ('constant-input', 'y = Squeeze(x, axis)', 'float[1,8] x, int64[1] axis', 'float[8] y'),
    ('attribute', 'v, i = TopK<sorted = 0>(x, k)', 'float[2,8] x', TOP, 'int64[1] k = {3}'),
    ('attribute', *(part.format(0, 4) for part in DEFORM)),
    ('type', 'z = Cast<to = 11>(x) y = Exp(z)', 'float[2,8] x', 'double[2,8] y'),
]  # fmt: skip


@pytest.mark.parametrize('rule, line, parts', [(rule, line, rest) for rule, line, *rest in BROKEN])
def test_violation_is_caught(rule, line, parts):
    assert rule in rules_broken(body(line, *parts))


def test_clean_graphs_pass():
    assert rules_broken(CLEAN) == set()
    folded = body('k = Shape<start = 1, end = 2>(x) v, i = TopK(x, k)', 'float[2,8] x', TOP)
    assert rules_broken(folded) == set()


def test_releases_differ():
    deform = body(*(part.format(1, 5) for part in DEFORM))
    assert rules_broken(deform) == set()
    assert rules_broken(deform, '8.6') == {'opset', 'unsupported-operator'}
    assert rules_broken(CLEAN, '8.6', opset=17) == set()
    assert rules_broken(CLEAN, opset=21) == {'opset'}
    large = body('y = Add(x, big)', 'int64[1] x', 'int64[1] y', 'int64[1] big = {9000000000}')
    assert rules_broken(large) == set()
    assert rules_broken(large, '8.6', opset=17) == {'int64'}
