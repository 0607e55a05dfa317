"""INT8 in the backbone and the neck, and nowhere else."""

import json

import numpy as np
import onnx
import pytest
from PIL import Image

from mmdet_centernet2.deploy.quantize import quantize
from mmdet_centernet2.deploy.winograd import winograd
from mmdet_centernet2.runtime import Detector, ModelFileError
from tests.test_deploy.stand_in import INFO, write_model

pytestmark = pytest.mark.export


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A model, photographs and the model in INT8."""
    folder = tmp_path_factory.mktemp('quantize')
    images = folder / 'images'
    images.mkdir()
    for seed in range(4):
        pixels = np.random.RandomState(seed).randint(0, 256, (64, 96, 3))
        pixels = (pixels * (seed + 1) / 4).astype(np.uint8)
        Image.fromarray(pixels).save(images / f'{seed}.png')
    model = write_model(folder / 'model.onnx')
    number = quantize(model, folder / 'int8.onnx', sorted(images.iterdir()))
    assert number == 3
    return folder


def weights_of(model, scope):
    """Element types of the weights that a scope's convolutions get."""
    makers = {name: node for node in model.graph.node for name in node.output}
    types = {array.name: array.data_type for array in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type == 'Conv' and node.name.startswith(scope):
            weight = node.input[1]
            maker = makers.get(weight)
            found.append(types[maker.input[0] if maker else weight])
    return found


def test_backbone_and_neck_are_int8_and_the_head_is_not(folder):
    model = onnx.load(folder / 'int8.onnx')
    int8, float32 = onnx.TensorProto.INT8, onnx.TensorProto.FLOAT
    assert weights_of(model, '/backbone/') == [int8, int8]
    assert weights_of(model, '/neck/') == [int8]
    assert weights_of(model, '/rpn_head/') == [float32]


def test_every_channel_has_its_scale(folder):
    model = onnx.load(folder / 'int8.onnx')
    arrays = {array.name: onnx.numpy_helper.to_array(array) for array in model.graph.initializer}
    scales = [
        arrays[node.input[1]]
        for node in model.graph.node
        if node.op_type == 'DequantizeLinear'
        and node.input[0] in arrays
        and arrays[node.input[0]].dtype == np.int8
    ]
    assert [scale.shape for scale in scales] == [(8,)] * 3


def test_metadata_stay(folder):
    assert Detector(folder / 'int8.onnx').info == Detector(folder / 'model.onnx').info
    (entry,) = [
        e for e in onnx.load(folder / 'int8.onnx').metadata_props if e.key == 'mmdet_centernet2'
    ]
    assert json.loads(entry.value) == INFO


def test_detections_hardly_change(folder):
    image = next((folder / 'images').iterdir())
    found, expected = (Detector(folder / name)(image) for name in ('int8.onnx', 'model.onnx'))
    assert np.array_equal(found.bboxes, expected.bboxes)
    assert found.scores == pytest.approx(expected.scores, abs=0.02)
    assert found.scores[1] != expected.scores[1]


def test_a_model_without_names_is_refused(folder, tmp_path):
    model = onnx.load(folder / 'model.onnx')
    for index, node in enumerate(model.graph.node):
        node.name = f'node_{index}'
    onnx.save(model, tmp_path / 'nameless.onnx')
    with pytest.raises(ModelFileError, match='no convolution'):
        quantize(tmp_path / 'nameless.onnx', tmp_path / 'out.onnx', [])
    assert not (tmp_path / 'out.onnx').exists()


def test_the_head_can_have_winograd_convolutions(folder, tmp_path):
    """INT8 ones stay, and so they do if that comes first."""
    image = next((folder / 'images').iterdir())
    assert winograd(folder / 'int8.onnx', tmp_path / 'both.onnx', min_channels=4) == 1
    found, expected = (Detector(p)(image) for p in (tmp_path / 'both.onnx', folder / 'int8.onnx'))
    assert found.scores == pytest.approx(expected.scores, abs=1e-5)
    assert np.array_equal(found.bboxes, expected.bboxes)
    with pytest.raises(ModelFileError, match='already'):
        winograd(tmp_path / 'both.onnx', tmp_path / 'twice.onnx', min_channels=1)
    winograd(folder / 'model.onnx', tmp_path / 'first.onnx', min_channels=8)
    assert quantize(tmp_path / 'first.onnx', tmp_path / 'both.onnx', [image]) == 1
