"""TensorRT's graphs: its rules, and the same detections.

TensorRT itself is not there. The graphs hold standard operators only, so that
onnxruntime runs the very same files.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mmdet_centernet2.deploy.finish import half_features
from tests.test_deploy.exporting import (
    assert_same,
    build,
    deploy_cfg,
    export_model,
    kind_of,
    make_images,
    run_onnx,
    run_torch,
    tiny_cfg,
)
from tests.test_deploy.tensorrt_rules import check_tensorrt

pytestmark = [pytest.mark.export, pytest.mark.slow]

SIDE = 256
#: One of each kind of graph; the dynamic one is the plain cascade.
KINDS = ('one stage, stride 4, DLA', 'single second stage', 'Res2Net, DCN, BiFPN', 'masks')


def export_tensorrt(family: str, folder, name: str, shape, backend: str = 'tensorrt', **ir_config):
    """A model, an image and the file that TensorRT would be given."""
    deploy = deploy_cfg(f'{kind_of(family)}_{backend}_{name}', **ir_config)
    images = make_images([shape], seed=3)
    model = build(tiny_cfg(family), deploy)
    return model, images, export_model(model, deploy, images, folder)


@pytest.mark.parametrize('family', KINDS)
def test_static_graph_obeys_and_detects_the_same(family, tmp_path):
    model, images, path = export_tensorrt(
        family, tmp_path, 'static', (250, 200), input_shape=(SIDE, SIDE)
    )
    assert check_tensorrt(path) == []
    wanted = run_torch(model, images)
    assert len(wanted[0]) > 5, 'the model finds too little to prove anything'
    assert_same(run_onnx(path, images), wanted)


def test_dynamic_graph(tmp_path):
    """Found for one size, it holds for another."""
    model, _, path = export_tensorrt('cascade', tmp_path, 'dynamic', (SIDE, SIDE))
    assert check_tensorrt(path) == []
    images = make_images([(250, 200), (300, 350)], seed=3)
    assert_same(run_onnx(path, images), run_torch(model, images))


def test_features_in_float16(tmp_path):
    """Weights are half as large, boxes nearly the same; older releases take it, too."""
    model, images, path = export_tensorrt(
        'single second stage',
        tmp_path,
        'static',
        (120, 110),
        'tensorrt-fp16',
        input_shape=(128, 128),
        opset_version=17,
    )
    half = onnx.load(path)
    onnx.checker.check_model(half, full_check=True)
    assert check_tensorrt(half) == check_tensorrt(half, '8.6') == []
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    for node in half.graph.node:
        if node.op_type == 'Conv':
            inside = node.name.startswith(('/backbone/', '/neck/'))
            assert types[node.input[1]] == (TensorProto.FLOAT16 if inside else TensorProto.FLOAT)
    found, wanted = run_onnx(path, images), run_torch(model, images)
    best = found['dets'][0, 0]
    assert best[4] == pytest.approx(wanted[0].scores[0].item(), abs=0.01)
    with pytest.raises(ValueError, match='no node of the model begins with'):
        half_features(half, scopes=['/nowhere/'])


def test_inputs_that_stay_in_float32():
    """A Resize inside reads scales that another node inside computes."""
    ones = numpy_helper.from_array(np.ones(4, np.float32), 'ones')
    sizes = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), 'sizes')
    shape = dict(elem_type=TensorProto.FLOAT, shape=[1, 1, None, None])
    graph = helper.make_graph(
        [
            helper.make_node('Mul', ['ones', 'sizes'], ['scales'], '/neck/Mul'),
            helper.make_node('Resize', ['x', '', 'scales'], ['y'], '/neck/Resize'),
        ],
        'resize',
        [helper.make_tensor_value_info('x', **shape)],
        [helper.make_tensor_value_info('y', **shape)],
        [ones, sizes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    half = half_features(model)
    onnx.checker.check_model(half, full_check=True)
    image = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    (found,) = onnxruntime.InferenceSession(half.SerializeToString()).run(None, dict(x=image))
    assert np.array_equal(found, image.repeat(2, 2).repeat(2, 3))
