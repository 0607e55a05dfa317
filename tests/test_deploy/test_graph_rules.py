"""Every rule of TensorRT on a graph that breaks it, and on one that does not.
"""
import importlib.util
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from mmdet_centernet2.deploy.graph_rules import (RELEASES, check_tensorrt,
                                                 errors, report)
from tests.paths import ROOT

TOOL = ROOT / 'tools' / 'deploy_tools' / 'check_graph.py'

#: A detector's skeleton: features, the best cells, their boxes; nothing in it
#: depends on data but values.
CLEAN = '''
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
'''


def model_of(text: str, opset: int = 19, domains: str = '') -> onnx.ModelProto:
    """A model in ONNX's textual format; initializers without value are 1."""
    model = parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : {opset}{domains}]>' + text)
    values = [value for value in model.graph.value_info
              if re.search(rf'\b{value.name}\b[,>]', text.split('{')[0])]
    for value in values:  # declared between < and >, without a value
        kind = value.type.tensor_type
        shape = [side.dim_value for side in kind.shape.dim]
        model.graph.initializer.append(
            numpy_helper.from_array(np.ones(shape, np.float32), value.name))
    return model


def rules_broken(text: str, release: str = '10.1', **options) -> list:
    found = errors(check_tensorrt(model_of(text, **options), release))
    return sorted({finding.rule for finding in found})


def body(line: str, inputs: str = 'float[2,8] x', outputs: str = 'y',
         constants: str = '') -> str:
    """A graph of a few lines."""
    return f'g ({inputs}) => ({outputs}) <{constants}> {{ {line} }}'


def test_clean_graph_passes():
    assert check_tensorrt(model_of(CLEAN)) == []
    assert report([]) == ''


def test_dynamic_sizes_are_told_but_legal():
    """Reshape and Slice may take their sizes from shapes."""
    findings = check_tensorrt(model_of('''
        g (float[N,3,H,W] image) => (float[N,L] y)
          <int64[1] zero = {0}, int64[1] one = {1}, int64[1] rest = {-1}>
        {
          shape = Shape(image)
          batch = Slice(shape, zero, one)
          target = Concat<axis = 0>(batch, rest)
          y = Reshape(image, target)
        }'''))
    assert not errors(findings)
    note, = findings
    assert note.rule == 'dynamic-input' and '(?, 3, ?, ?)' in note.message


@pytest.mark.parametrize('rule, text', [
    ('topk-constant', body(
        'n = Shape<start = 1, end = 2>(x) '
        'k = Min(n, ten) v, i = TopK(x, k)', 'float[2,N] x',
        'float[2,M] v, int64[2,M] i', 'int64[1] ten = {10}')),
    ('topk-constant', body('v, i = TopK(x, k)', 'float[2,8] x, int64[1] k',
                           'float[2,M] v, int64[2,M] i')),
    ('topk-limit', body('v, i = TopK(x, k)', 'float[2,9000] x',
                        'float[2,M] v, int64[2,M] i',
                        'int64[1] k = {3841}')),
    ('topk-sorted', body('v, i = TopK<sorted = 0>(x, k)', 'float[2,8] x',
                         'float[2,M] v, int64[2,M] i', 'int64[1] k = {3}')),
    ('data-dependent-shape', body(
        'where = NonZero(x) rows = Transpose(where) '
        'picked = GatherND(x, rows) y = Exp(picked)', outputs='float[M] y')),
    ('data-dependent-shape', body(
        'best = NonMaxSuppression(boxes, scores, most, iou) '
        'ones = GatherND(scores, best) kept = ScatterND(zeros, best, ones) '
        'y, i = TopK(kept, k)', 'float[1,9,4] boxes, float[1,1,9] scores',
        'float[1,1,M] y, int64[1,1,M] i',
        'int64[1] most = {5}, float[1] iou = {0.5}, int64[1] k = {5}, '
        'float[1,1,9] zeros = {0,0,0,0,0,0,0,0,0}')),
    ('unsupported-operator', body('y = Compress(x, keep)',
                                  'float[8] x, bool[8] keep', 'float[M] y')),
    ('unsupported-operator', body('y = Unique(x)', 'float[8] x',
                                  'float[M] y')),
    ('shape-from-data', body(
        'top = ReduceMax<keepdims = 0>(x) n = Cast<to = 7>(top) '
        'y = Range(zero, n, one)', outputs='int64[M] y',
        constants='int64 zero = {0}, int64 one = {1}')),
    ('shape-from-data', body(
        'y = Slice(x, zero, ends)', 'float[8] x, int64[1] ends', 'float[M] y',
        'int64[1] zero = {0}')),
    ('shape-from-data', body(
        'y = Resize<mode = "linear">(x, , scales)',
        'float[1,1,8,8] x, float[4] scales', 'float[1,1,H,W] y')),
    ('constant-input', body('y = CumSum(x, axis)', 'float[2,8] x, int64 axis',
                            'float[2,8] y')),
    ('attribute', body('y = Resize<mode = "cubic">(x, , scales)',
                       'float[1,1,8,8] x', 'float[1,1,16,16] y',
                       'float[4] scales = {1, 1, 2, 2}')),
    ('attribute', body('y = Resize<antialias = 1, mode = "linear">'
                       '(x, , scales)', 'float[1,1,8,8] x',
                       'float[1,1,4,4] y', 'float[4] scales = {1,1,0.5,0.5}')),
    ('attribute', body(
        'y = DeformConv<kernel_shape = [3, 3], pads = [0, 1, 1, 1]>'
        '(x, weight, offset)', 'float[1,1,5,5] x, float[1,18,4,5] offset',
        'float[1,1,4,5] y', 'float[1,1,3,3] weight')),
    ('attribute', body('y = ScatterND<reduction = "add">(x, i, u)',
                       'float[8] x, int64[1,1] i, float[1] u',
                       'float[8] y')),
    ('attribute', body('y, i = MaxPool<kernel_shape = [2, 2]>(x)',
                       'float[1,1,8,8] x',
                       'float[1,1,7,7] y, int64[1,1,7,7] i')),
    ('type', body('z = Cast<to = 11>(x) y = Exp(z)', outputs='double[2,8] y')),
    ('type', body('a = Cast<to = 7>(x) t = Transpose(a) y = MatMul(a, t)',
                  outputs='int64[2,2] y')),
    ('type', body('a = Cast<to = 9>(x) y = Equal(a, a)',
                  outputs='bool[2,8] y')),
    ('type', body('y = Cast<to = 5>(x)', outputs='int16[2,8] y')),
    ('sequence', body('s = SequenceConstruct(x, x) '
                      'y = ConcatFromSequence<axis = 0>(s)',
                      outputs='float[4,8] y')),
    ('sequence', body('s = SplitToSequence(x) y = SequenceAt(s, zero)',
                      outputs='float[1,8] y', constants='int64 zero = {0}')),
])
def test_violation_is_caught(rule, text):
    assert rule in rules_broken(text)


def test_input_without_shape_is_caught():
    model = model_of(body('y = Exp(x)', outputs='float[2,8] y'))
    model.graph.input[0].type.tensor_type.ClearField('shape')
    finding, = check_tensorrt(model)
    assert (finding.rule, finding.node) == ('input-rank', 'input x')


def test_k_computed_from_constants_is_constant():
    assert rules_broken(body(
        'k = Min(five, ten) v, i = TopK(x, k)', 'float[2,8] x',
        'float[2,M] v, int64[2,M] i',
        'int64[1] five = {5}, int64[1] ten = {10}')) == []
    too_many = body(
        'k = Mul(five, thousand) v, i = TopK(x, k)', 'float[2,8000] x',
        'float[2,M] v, int64[2,M] i',
        'int64[1] five = {5}, int64[1] thousand = {1000}')
    assert rules_broken(too_many) == ['topk-limit']
    static = body('k = Shape<start = 1, end = 2>(x) v, i = TopK(x, k)',
                  'float[2,8] x', 'float[2,M] v, int64[2,M] i')
    assert rules_broken(static) == []


def test_nms_may_be_the_last():
    found = check_tensorrt(model_of(body(
        'y = NonMaxSuppression(boxes, scores, most, iou) '
        'picked = GatherND(scores, y)',
        'float[1,9,4] boxes, float[1,1,9] scores',
        'int64[M,3] y, float[M] picked',
        'int64[1] most = {5}, float[1] iou = {0.5}')))
    assert [(one.rule, one.severity) for one in found
            ] == [('data-dependent-output', 'note')]


def test_custom_operators_are_caught():
    text = body('y = trt.EfficientNMS(x)', outputs='float[2,8] y')
    assert rules_broken(text, domains=', "trt" : 1') == ['custom-operator']


def test_bodies_of_control_flow_are_walked():
    """The If itself, and what is in its branches."""

    def branch(name, *nodes):
        out = helper.make_tensor_value_info(name, TensorProto.INT64, None)
        return helper.make_graph(list(nodes), name, [], [out])

    node = helper.make_node(
        'If', ['yes'], ['y'], name='choice',
        then_branch=branch('a', helper.make_node('NonZero', ['x'], ['a'])),
        else_branch=branch(
            'b', helper.make_node('Unique', ['x'], ['_', 'b'], name='odd')))
    model = model_of(body('y = NonZero(x)', 'bool yes, float[2,8] x',
                          'int64[2,M] y'))
    del model.graph.node[:]
    model.graph.node.append(node)
    found = {finding.rule: finding for finding in check_tensorrt(model)}
    assert {'control-flow', 'unsupported-operator',
            'data-dependent-output'} <= set(found)
    assert found['unsupported-operator'].node == 'If choice > Unique odd'
    assert found['control-flow'].node == 'If choice'


def test_releases_differ():
    deform = body(
        'y = DeformConv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>'
        '(x, weight, offset)', 'float[1,1,5,5] x, float[1,18,5,5] offset',
        'float[1,1,5,5] y', 'float[1,1,3,3] weight')
    assert rules_broken(deform) == []
    assert rules_broken(deform, '8.6') == ['opset', 'unsupported-operator']
    assert rules_broken(CLEAN, '8.6', opset=17) == []
    assert rules_broken(CLEAN, opset=21) == ['opset']
    assert rules_broken(CLEAN, '10.15', opset=21) == []
    large = body('y = Add(x, big)', 'int64[1] x', 'int64[1] y',
                 'int64[1] big = {9000000000}')
    assert rules_broken(large) == []
    assert rules_broken(large, '8.6', opset=17) == ['int64']
    to_the_end = body('y = Slice(x, zero, big)', 'float[8] x', 'float[8] y',
                      'int64[1] zero = {0}, '
                      'int64[1] big = {9223372036854775807}')
    assert rules_broken(to_the_end, '8.6', opset=17) == []
    with pytest.raises(ValueError, match='no rules for TensorRT 7.0'):
        check_tensorrt(model_of(CLEAN), '7.0')
    assert list(RELEASES) == ['8.6', '10.1', '10.15']


def test_command_line(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location('check_graph', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    good, bad = tmp_path / 'good.onnx', tmp_path / 'bad.onnx'
    onnx.save(model_of(CLEAN), good)
    onnx.save(model_of(body(
        'a = NonZero(x) b = Transpose(a) c = GatherND(x, b) '
        'd = Exp(c) e = Exp(d) f = NonZero(e) y = Unique(f)',
        outputs='int64[M] y')), bad)
    assert tool.main([str(good), '--backend', 'tensorrt']) == 0
    said = capsys.readouterr().out
    assert 'good.onnx: 0 errors, 0 notes for TensorRT 10.1' in said
    assert tool.main([str(bad), '--most', '1']) == 1
    said = capsys.readouterr().out
    for words in ('error: data-dependent-shape (2)', 'and 1 more',
                  'error: unsupported-operator (1)', 'bad.onnx: 3 errors'):
        assert words in said
    assert tool.main([str(tmp_path / 'missing.onnx')]) == 2
    assert capsys.readouterr().err.strip().endswith('missing.onnx')
