"""Winograd convolutions in a graph: the same results, whatever the size and batch."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mmdet_centernet2.deploy.winograd import NAME, replace_convolutions
from tests.test_deploy.exporting import FAMILIES, assert_same, batches, run_onnx, run_torch
from tests.test_deploy.stand_in import write_model

pytestmark = pytest.mark.export

SAME = dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def make(*convs: tuple[int, int, dict], bias: bool = True) -> onnx.ModelProto:
    """A chain of convolutions: inputs, outputs and attributes of each."""
    random = np.random.RandomState(0)
    nodes, arrays, data = [], [], 'x'
    for i, (ins, outs, attributes) in enumerate(convs):
        shape = (outs, ins // attributes.get('group', 1), *attributes['kernel_shape'])
        weight = (random.randn(*shape) / np.sqrt(9 * ins)).astype(np.float32)
        names = [f'w{i}', f'b{i}'][: 1 + bias]
        arrays += [numpy_helper.from_array(weight, f'w{i}')]
        arrays += [numpy_helper.from_array(random.randn(outs).astype(np.float32), f'b{i}')]
        nodes.append(helper.make_node('Conv', [data, *names], [f'y{i}'], **attributes))
        data = f'y{i}'
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ['n', channels, 'h', 'w'])
        for name, channels in (('x', convs[0][0]), (data, convs[-1][1]))
    ]
    graph = helper.make_graph(nodes, 'chain', ends[:1], ends[1:], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 16)], ir_version=8)


def run(model: onnx.ModelProto, data: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )
    return session.run(None, {'x': data})[0]


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('ins, outs', [(3, 5), (64, 48)])
def test_any_size_and_batch(ins, outs, bias):
    model = make((ins, outs, SAME), (outs, ins, SAME), bias=bias)
    replaced = onnx.ModelProto()
    replaced.CopyFrom(model)
    assert replace_convolutions(replaced, 1) == 2
    assert {node.op_type for node in replaced.graph.node} == {NAME}
    random = np.random.RandomState(1)
    for batch, height, width in [(1, 1, 1), (2, 4, 8), (1, 5, 3), (3, 13, 22), (2, 32, 31)]:
        data = random.randn(batch, ins, height, width).astype(np.float32) * 3
        wanted, found = run(model, data), run(replaced, data)
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
    'attributes',
    [
        dict(kernel_shape=[1, 1]),
        dict(kernel_shape=[3, 3]),
        dict(SAME, strides=[2, 2]),
        dict(SAME, dilations=[2, 2]),
        dict(SAME, group=2),
        dict(kernel_shape=[3, 3], auto_pad='SAME_UPPER'),
    ],
)
def test_other_convolutions_stay(attributes):
    model = make((8, 8, attributes), (8, 8, SAME), (8, 4, SAME))
    before = [node.SerializeToString() for node in model.graph.node]
    assert replace_convolutions(model, 8) == 1
    after = [node.SerializeToString() for node in model.graph.node]
    assert [node in after for node in before] == [True, False, True]
    assert 'w1' not in {array.name for array in model.graph.initializer}


def test_weights_that_are_shared_are_transformed_once():
    model = make((8, 8, SAME), (8, 8, SAME))
    model.graph.node[1].input[1] = 'same'
    model.graph.node.insert(0, helper.make_node('Identity', ['w0'], ['same']))
    data = np.random.RandomState(0).randn(1, 8, 9, 9).astype(np.float32)
    wanted = run(model, data)
    assert replace_convolutions(model, 8) == 2
    shapes = [tuple(array.dims) for array in model.graph.initializer]
    assert shapes.count((36, 8, 8)) == 1
    assert run(model, data) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('family', FAMILIES)
def test_detections_of_each_family(family, exported, run_tool, tmp_path, capsys):
    """The tool on an export of any size and batch, against PyTorch."""
    model, path = exported(family)
    out = tmp_path / 'winograd.onnx'
    assert run_tool('winograd', path, '--out', out, '--min-channels', 16) == 0
    number = int(capsys.readouterr().out.split()[0])
    graph = onnx.load(out).graph
    assert sum(node.op_type == NAME for node in graph.node) == number > 3
    for batch in batches(family):
        assert_same(run_onnx(out, batch), run_torch(model, batch))


def test_a_file_with_nothing_to_replace(run_tool, tmp_path, capsys):
    model = write_model(tmp_path / 'model.onnx')
    assert run_tool('winograd', model) == 2
    said = capsys.readouterr().err
    assert 'no float32 3x3 convolution of stride 1 with 128 channels' in said
    assert run_tool('winograd', tmp_path / 'none.onnx') == 2
    assert 'does not exist' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['model.onnx']
